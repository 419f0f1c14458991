"""The signs of life that come once a second: the last beat of each node, the last pulse of each runner."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TypeVar

import msgspec

from bus.bus import Bus
from bus.subjects import untoken
from schemas.ids import InstanceId, NodeId
from schemas.node import Beat, Pulse
from schemas.unreadable import UNREADABLE

STALE_S = 5.0
"""Who was not heard for this long has nothing to show; seconds."""
_beat = msgspec.json.Decoder(Beat).decode
_pulse = msgspec.json.Decoder(Pulse).decode

Key = TypeVar("Key")
Sign = TypeVar("Sign")
Heard = dict[Key, tuple[float, Sign]]


class Signs:
    """What was heard while `listening`; never older than `STALE_S`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._beats: Heard[NodeId, Beat] = {}
        self._pulses: Heard[tuple[NodeId, InstanceId], Pulse] = {}

    @asynccontextmanager
    async def listening(self, node: NodeId | None = None) -> AsyncGenerator[None]:
        """To the whole cluster, or to the runners of one node alone."""
        subjects = self._bus.subjects
        async with AsyncExitStack() as stack:
            if node is None:
                await stack.enter_async_context(self._bus.listening(subjects.beats, self._hear_beat))
            pulses = subjects.pulses if node is None else subjects.pulses_on(node)
            await stack.enter_async_context(self._bus.listening(pulses, self._hear_pulse))
            yield

    @property
    def beats(self) -> dict[NodeId, Beat]:
        return _fresh(self._beats)

    @property
    def pulses(self) -> dict[tuple[NodeId, InstanceId], Pulse]:
        """By the node that the runner lives on, and its instance."""
        return _fresh(self._pulses)

    def _hear_beat(self, payload: bytes, subject: str) -> None:
        try:
            beat = _beat(payload)
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
            return
        self._beats[beat.node] = (monotonic(), beat)

    def _hear_pulse(self, payload: bytes, subject: str) -> None:
        try:
            pulse, node = _pulse(payload), NodeId(untoken(subject.split(".")[-2]))
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
            return
        if not pulse.rank:  # it tells what the instance does; the others do the same
            self._pulses[node, pulse.instance] = (monotonic(), pulse)


def _fresh(heard: Heard[Key, Sign]) -> dict[Key, Sign]:
    """What was heard of late; the rest is forgotten."""
    oldest = monotonic() - STALE_S
    for key in [key for key, (at, _) in heard.items() if at < oldest]:
        del heard[key]
    return {key: sign for key, (_, sign) in heard.items()}
