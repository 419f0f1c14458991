"""Watches one runner from outside, and ends it when it is frozen, or stuck in loading or in a step."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

import msgspec
import structlog

from actors.worker.runner_process import Ending, RunnerProcess
from actors.worker.watchdog import Patience, Watchdog
from bus.bus import Bus
from schemas.instance import Instance, Shard
from schemas.node import Pulse
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

LOOK_S = 1.0
"""Pulses come at 1 Hz; only the clock tells of their absence."""
BUS_ANSWERS_S = 2.0
"""A bus that takes longer for one answer is not one to judge a runner by."""
_pulse = msgspec.json.Decoder(Pulse)


class RunnerWatch:
    """The watch over one life of one runner."""

    def __init__(
        self, bus: Bus, instance: Instance, shard: Shard, patience: Patience, process: RunnerProcess
    ) -> None:
        self._bus = bus
        self._instance = instance
        self._shard = shard
        self._process = process
        self._watchdog = Watchdog(patience, monotonic(), bus.connected)
        self._complaint = ""
        self._log = log.bind(node=shard.node, instance=instance.id, attempt=instance.attempt)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Watch while the block runs."""
        subject = self._bus.subjects.pulse(self._shard.node, self._instance.id)
        async with self._bus.listening(subject, self._hear):
            looking = asyncio.create_task(self._look())
            try:
                yield
            finally:
                looking.cancel()
                await asyncio.wait([looking])

    def verdict(self, ending: Ending) -> Ending:
        """Why it ended: what the watch complained of is better than how the process died."""
        return msgspec.structs.replace(ending, reason=self._complaint) if self._complaint else ending

    async def _look(self) -> None:
        while not self._complaint:
            await asyncio.sleep(LOOK_S)
            self._watchdog.note_bus(self._bus.connected, monotonic())
            if self._watchdog.complaint(monotonic()):
                self._complaint = await self._confirmed()
        self._log.warning("runner.condemned", reason=self._complaint)
        self._process.kill()

    async def _confirmed(self) -> str:
        """A frozen bus, or a worker that was frozen itself, makes a runner silent that is not."""
        self._watchdog.note_bus(await self._bus.answers(BUS_ANSWERS_S), monotonic())
        return self._watchdog.complaint(monotonic())

    def _hear(self, payload: bytes, subject: str) -> None:
        try:
            pulse = _pulse.decode(payload)
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
            return
        if (pulse.attempt, pulse.rank) == (self._instance.attempt, self._shard.rank):
            self._watchdog.hear(pulse, monotonic())
