"""Starts what has failed afresh; what fails too often goes up."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import structlog

log = structlog.get_logger()

MOST_FAILURES = 5
WINDOW_S = 60.0


class GaveUp(Exception):
    """Something failed more often than a restart can mend."""


class Supervisor:
    """Runs one child, again and again; the only place that catches every exception."""

    def __init__(self, name: str, most_failures: int = MOST_FAILURES, window_s: float = WINDOW_S) -> None:
        self._name = name
        self._most = most_failures
        self._window_s = window_s
        self._failures: deque[float] = deque()

    async def run(self, start: Callable[[], Awaitable[None]]) -> None:
        """Call and await `start` until it returns; raises `GaveUp` after too many failures in the window."""
        while True:
            try:
                return await start()
            except Exception as failure:  # the one broad catch: a new life begins from the log
                log.exception("actor.failed", actor=self._name, reason=reason_of(failure))
                self._note(failure)
            await asyncio.sleep(min(5.0, 0.05 * 2 ** len(self._failures)))

    def _note(self, failure: Exception) -> None:
        now = time.monotonic()
        self._failures.append(now)
        while self._failures[0] < now - self._window_s:
            self._failures.popleft()
        if len(self._failures) > self._most:
            raise GaveUp(
                f"{self._name} failed {len(self._failures)} times within {self._window_s:g} s, "
                f"at last with: {reason_of(failure)}"
            ) from failure


def reason_of(failure: BaseException) -> str:
    """The sentence inside, also out of a group of exceptions."""
    if isinstance(failure, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", failure)
        return reason_of(inner.exceptions[0])
    return str(failure) or type(failure).__name__
