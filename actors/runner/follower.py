"""A rank that does what rank 0 tells: it takes no tasks, sends no chunks, and reports nothing but its end."""

import asyncio

import structlog

from actors.engine.factory import make_rank
from actors.engine.lockstep import Following, RankEngine
from actors.runner.engine_thread import EngineThread
from actors.runner.gathering import gathered
from actors.runner.group_life import in_group
from actors.runner.job import RunnerJob
from actors.runner.pulses import send_pulses
from actors.runner.rounds import RoundsIn
from actors.runner.wanted import wanted
from bus.bus import Bus
from schemas.group import Seat
from schemas.instance import RunnerStatus

log = structlog.get_logger()


class Follower:
    """One life of one rank; `run` until it fails or is cancelled."""

    def __init__(self, job: RunnerJob, bus: Bus) -> None:
        self._job = job
        self._bus = bus
        self._seat: Seat | None = None
        self._following = Following(self._make)
        self._engine = EngineThread(lambda: self._following, self._come_to, lambda _: None, lambda _: None)
        self._rounds = RoundsIn(bus, job.instance, job.attempt, self._follow)

    async def run(self) -> None:
        """Raises what ended the engine."""
        try:
            async with self._rounds.listening(), asyncio.TaskGroup() as children:
                children.create_task(self._live())
                children.create_task(self._rounds.watch())
                children.create_task(send_pulses(self._bus, self._job, self._engine.vitals, lambda: 0))
        finally:
            self._engine.leave()

    async def _live(self) -> None:
        async with gathered(self._bus, self._job) as self._seat:
            await in_group(self._engine.start())

    def _make(self) -> RankEngine:
        return make_rank(wanted(self._job, self._seat))

    def _follow(self, told: bytes) -> None:
        self._following.follow(told)
        self._engine.wake()

    def _come_to(self, status: RunnerStatus, slots: int) -> None:
        log.info("runner.status", status=status, slots=slots, rank=self._job.rank)
