"""Bounds of an engine: as they were asked for, or as they suit the machine."""

import mlx.core as mx
from msgspec import Struct

from actors.engine.port import EngineLoadError
from actors.engine.room import UNBOUNDED, Room
from actors.engine.slots import usual_slots
from actors.machine.memory import read_memory
from schemas.task import Task

CACHE_SHARE = 8
"""Prefixes may take this part of the memory that is free when a model is loaded: one eighth."""
BATCH_SHARE = 2
"""And sequences that run this part: a half."""
USUAL_ANSWER = 4096
"""Tokens of an answer that are counted beforehand where nobody has said how many bytes there are: most are
allowed the rest of the context, and make a few hundred."""


class Limits(Struct, frozen=True):
    """None: what the model or the machine suggests."""

    context: int | None = None
    """Most tokens of prompt and answer together."""
    slots: int | None = None
    cache_bytes: int | None = None
    """Most memory for prefixes that are kept."""
    batch_bytes: int | None = None
    """Most memory for keys and values of sequences that run."""

    def within(self, made_for: int | None) -> int | None:
        """The context of a model that was made for so many tokens; raises EngineLoadError when more was asked for."""
        if self.context and made_for and self.context > made_for:
            reason = (
                f"a context of {self.context} tokens was asked for, and the model was made for {made_for}"
            )
            raise EngineLoadError(reason, retryable=False)
        return self.context or made_for

    def sequences(self, on_cpu: bool) -> int:
        """That run at once."""
        return self.slots or usual_slots(on_cpu)

    def prefix_bytes(self, on_cpu: bool) -> int:
        """For prefixes that are kept, once the model is loaded."""
        return _free_bytes(on_cpu) // CACHE_SHARE if self.cache_bytes is None else self.cache_bytes

    def running_bytes(self, on_cpu: bool) -> int:
        """For sequences that run, once the model is loaded."""
        return _free_bytes(on_cpu) // BATCH_SHARE if self.batch_bytes is None else self.batch_bytes

    def room(self, tokens: int, context: int | None) -> Room:
        """`tokens`: so many have place in `running_bytes`."""
        return Room(tokens, UNBOUNDED if self.batch_bytes is not None else USUAL_ANSWER, context)

    def too_much(self, task: Task, room: Room) -> str | None:
        """Why it will never fit into the bytes that somebody has set; where nobody has, it is tried alone."""
        needed = room.needed(task, task.seats)
        if self.batch_bytes is None or needed <= room.tokens:
            return None
        return (
            f"{task.seats} x {needed // task.seats} tokens of prompt and answer are more than the "
            f"{room.tokens} whose keys and values have place in batch_bytes, which is {self.batch_bytes}"
        )


def _free_bytes(on_cpu: bool) -> int:
    free = read_memory().free_bytes
    if not on_cpu:
        free = int(mx.device_info().get("memory_size", free)) - mx.get_active_memory()
    return max(0, free)
