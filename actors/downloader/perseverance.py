"""How long to wait before something that did not work is tried again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from actors.downloader.sources.source import Progress, Unavailable
from bus.errors import BusAway

T = TypeVar("T")
Explain = Callable[[Unavailable | BusAway, float], Awaitable[None]]
"""Is told what did not work, and in how many seconds it is tried again."""


class Pace(Struct, frozen=True, kw_only=True):
    """How often progress is told, how long a failed try waits for the next, and how long a fetch waits
    for what the leader makes of a model that was just read; seconds."""

    report_s: float = 1.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    reconsider_s: float = 0.5


class Perseverance:
    """Tries for ever: sooner when bytes came since the last try, later when none did, at once when hurried."""

    def __init__(self, pace: Pace, progress: Progress, explain: Explain) -> None:
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type((Unavailable, BusAway)),
            wait=self._wait_s,
            sleep=self._nap,
            before_sleep=self._before_sleep,
        )
        self._explain = explain
        self._pace = pace
        self._progress = progress
        self._furthest = 0
        self._fruitless = 0
        self._hurried = asyncio.Event()

    async def until_done(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns in the end; what it raises that does not heal by itself goes through."""
        async for attempt in self._retrying:
            with attempt:
                return await work()
        raise AssertionError("tries never end")

    def hurry(self) -> None:
        """Do not wait any longer."""
        self._hurried.set()

    def _wait_s(self, attempt: RetryCallState) -> float:
        """Twice as long each time that nothing came, and at least as long as the other side asks for."""
        if self._progress.bytes_done > self._furthest:
            self._furthest, self._fruitless = self._progress.bytes_done, 0
        wait_s = min(self._pace.first_wait_s * 2**self._fruitless, self._pace.longest_wait_s)
        self._fruitless = min(self._fruitless + 1, 30)
        failure = _failure(attempt)
        asked_s = failure.retry_after_s if isinstance(failure, Unavailable) else 0.0
        return max(asked_s, wait_s * random.uniform(0.75, 1.25))

    async def _before_sleep(self, attempt: RetryCallState) -> None:
        failure = _failure(attempt)
        assert isinstance(failure, Unavailable | BusAway)
        await self._explain(failure, attempt.upcoming_sleep)

    async def _nap(self, seconds: float) -> None:
        self._hurried.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()


def _failure(attempt: RetryCallState) -> BaseException | None:
    return attempt.outcome.exception() if attempt.outcome is not None else None
