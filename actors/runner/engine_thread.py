"""The one thread that an engine lives on, and the loop's way to it."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from actors.engine.port import Engine, LoadStage, PrefixChanges
from actors.engine.room import Room
from actors.runner.vitals import Vitals
from schemas.chunks import Chunk
from schemas.ids import RequestId
from schemas.instance import RunnerStatus
from schemas.task import Task

log = structlog.get_logger()

UNDELIVERED_STEPS = 64
"""An engine that is this far ahead of the loop waits for it."""
GAUGE_EVERY = 4
"""Steps after which the engine's gauges are read."""

Order = Callable[[Engine], None]
OnStage = Callable[[RunnerStatus, int], None]
"""(status, slots), called on the loop."""
OnChunks = Callable[[list[Chunk]], None]
"""A whole step's chunks, called on the loop."""
OnPrefixes = Callable[[PrefixChanges], None]
"""What the engine has come to keep or let go, called on the loop."""


class EngineThread:
    """Makes an engine, loads it, and steps it while there is work; every call on it happens there."""

    def __init__(
        self, make: Callable[[], Engine], on_stage: OnStage, on_chunks: OnChunks, on_prefixes: OnPrefixes
    ) -> None:
        self.vitals = Vitals()
        self._make = make
        self._on_stage = on_stage
        self._on_chunks = on_chunks
        self._on_prefixes = on_prefixes
        self._engine: Engine | None = None
        self._orders: deque[Order] = deque()
        self._news = threading.Event()
        self._room = threading.Semaphore(UNDELIVERED_STEPS)
        self._leaving = False
        self._steps = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._loop = asyncio.get_running_loop()

    @property
    def room(self) -> Room:
        """Of the engine, once it is ready."""
        return self._engine.room if self._engine else Room()

    def start(self) -> asyncio.Future[None]:
        """The engine's life, which carries whatever ended it: EngineLoadError, or what was not foreseen."""
        return self._loop.run_in_executor(self._pool, self._live)

    def add(self, task: Task) -> None:
        self._order(lambda engine: engine.add(task))

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        self._order(lambda engine: engine.cancel(request, attempt, index))

    def leave(self) -> None:
        """End after the step that runs; nothing is finished."""
        self._leaving = True
        self._pool.shutdown(wait=False)
        self._room.release()
        self.wake()

    def _order(self, order: Order) -> None:
        self._orders.append(order)
        self.wake()

    def wake(self) -> None:
        """There may be work."""
        self._news.set()
        if self._engine is not None:
            self._engine.wake()

    def _live(self) -> None:
        engine = self._prepared()
        try:
            while not self._leaving:
                self._news.clear()
                while self._orders:
                    self._orders.popleft()(engine)
                if engine.idle:
                    self._rest(engine)
                else:
                    self._step(engine)
        finally:
            engine.close()

    def _prepared(self) -> Engine:
        self.vitals.step_begins()
        self._tell_stage("loading", 0)
        engine = self._make()
        engine.load(self._note_stage)
        self._tell_stage("warming", 0)
        engine.warm()
        self.vitals.prepared()
        self._engine = engine
        self._tell_stage("ready", engine.slots)
        return engine

    def _rest(self, engine: Engine) -> None:
        """Until there is news; that it is to leave may be what was just forgotten."""
        self._note(engine)
        if not self._leaving:
            self._news.wait()

    def _step(self, engine: Engine) -> None:
        self.vitals.step_begins()
        chunks = engine.step()
        self.vitals.step_ended()
        self._steps += 1
        if self._steps % GAUGE_EVERY == 0:
            self._note(engine)
        if chunks:
            self._room.acquire()
            if not self._leaving:
                self._loop.call_soon_threadsafe(self._deliver, chunks)
        changes = engine.prefix_changes()
        if changes is not None and not self._leaving:
            self._loop.call_soon_threadsafe(self._on_prefixes, changes)

    def _note(self, engine: Engine) -> None:
        before, self.vitals.gauges = self.vitals.gauges, engine.gauges
        if self.vitals.gauges.draft_lost != before.draft_lost:
            self._tell_stage("ready", engine.slots)  # still, but otherwise than before

    def _deliver(self, chunks: list[Chunk]) -> None:
        self._room.release()
        self._on_chunks(chunks)

    def _tell_stage(self, status: RunnerStatus, slots: int) -> None:
        if not self._leaving:
            self._loop.call_soon_threadsafe(self._on_stage, status, slots)

    def _note_stage(self, stage: LoadStage) -> None:
        log.info("engine.loading", stage=stage)
