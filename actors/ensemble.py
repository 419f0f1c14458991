"""The actors of one node as tasks: started in order, stopped in the opposite order, each supervised."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from actors.supervisor import GaveUp, Supervisor

log = structlog.get_logger()

Life = Callable[[], Awaitable[None]]
"""One life of an actor, from its making to its end."""


class EndedByItself(Exception):
    """An actor that was told nothing has come to an end: nobody would do its work any more."""


class Ensemble:
    """What runs on a node; `until_over` ends when it is told to stop, or when an actor cannot be helped."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._failure: str = ""

    def start(self, name: str, life: Life) -> None:
        self._tasks[name] = asyncio.create_task(self._supervise(name, life), name=name)

    def stop(self) -> None:
        self._stop.set()

    def fail(self, reason: str) -> None:
        """End the node: no new life of an actor would help."""
        self._failure = reason
        self._stop.set()

    async def until_over(self) -> str:
        """The sentence of the actor that failed too often; empty when all was asked to stop."""
        await self._stop.wait()
        return self._failure

    async def close(self) -> None:
        """Stop everything, the last one started first, each only when the one after it is gone."""
        for name, task in reversed(self._tasks.items()):
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (failure := task.exception()):
                log.error("actor.stop_failed", actor=name, reason=str(failure))
        self._tasks.clear()

    async def _supervise(self, name: str, life: Life) -> None:
        try:
            await Supervisor(name).run(lambda: _endless(life))
        except GaveUp as failure:
            self.fail(str(failure))


async def _endless(life: Life) -> None:
    await life()
    raise EndedByItself("it ended by itself")
