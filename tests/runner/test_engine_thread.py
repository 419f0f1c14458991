"""The thread that an engine lives on ends when it is told to, at whatever moment."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from actors.engine.simulated import SimulatedEngine
from actors.runner.engine_thread import EngineThread
from schemas.model import SimulatedSpeed
from tests.engine.running import ORIGIN


class Clearing(threading.Event):
    """Calls somebody just before it forgets that it was set."""

    before: Callable[[], None] | None = None

    def clear(self) -> None:
        if self.before is not None:
            self.before()
        super().clear()


async def test_one_that_is_told_to_leave_before_it_waits_for_work_does_not_wait(llama: Path) -> None:
    engine = SimulatedEngine(llama, ORIGIN, SimulatedSpeed())
    thread = EngineThread(lambda: engine, lambda *_: None, lambda _: None, lambda _: None)
    news = thread._news = Clearing()
    news.before = thread.leave
    async with asyncio.timeout(10):
        await thread.start()
