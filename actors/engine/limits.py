"""Bounds of an engine: as they were asked for, or as they suit the machine."""

import mlx.core as mx
import psutil
from msgspec import Struct

from actors.engine.port import EngineLoadError
from actors.engine.slots import usual_slots

CACHE_SHARE = 8
"""Prefixes may take this part of the memory that is free when a model is loaded: one eighth."""


class Limits(Struct, frozen=True):
    """None: what the model or the machine suggests."""

    context: int | None = None
    """Most tokens of prompt and answer together."""
    slots: int | None = None
    cache_bytes: int | None = None
    """Most memory for prefixes that are kept."""

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
        if self.cache_bytes is not None:
            return self.cache_bytes
        free = psutil.virtual_memory().available
        if not on_cpu:
            free = int(mx.device_info().get("memory_size", free)) - mx.get_active_memory()
        return max(0, free) // CACHE_SHARE
