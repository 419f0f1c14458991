"""How long a failed try waits for the next."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from actors.downloader.perseverance import Pace, Perseverance
from actors.downloader.sources.hub_errors import LONGEST_RETRY_AFTER_S, retry_after_s
from actors.downloader.sources.source import Progress, Unavailable
from bus.errors import BusAway

FAST = Pace(first_wait_s=0.001, longest_wait_s=0.008)


async def waits(pace: Pace, *failures: Unavailable | None) -> list[float]:
    """The waits after each of `failures`; before None comes a byte."""
    progress, waited, left = Progress(), [], list(failures)

    async def explain(_: Unavailable | BusAway, wait_s: float) -> None:
        waited.append(wait_s)

    async def work() -> None:
        while left and left[0] is None:
            left.pop(0)
            progress.add(1)
        if left:
            failure = left.pop(0)
            assert failure is not None
            raise failure

    await Perseverance(pace, progress, explain).until_done(work)
    return waited


async def test_waits_grow_up_to_the_longest() -> None:
    waited = await waits(FAST, *[Unavailable("no")] * 6)
    for wait_s, middle in zip(waited, (0.001, 0.002, 0.004, 0.008, 0.008, 0.008), strict=True):
        assert 0.75 * middle <= wait_s <= 1.25 * middle


async def test_a_byte_that_came_makes_the_next_wait_short_again() -> None:
    waited = await waits(FAST, *[Unavailable("no")] * 4, None, Unavailable("no"))
    assert waited[-1] <= 1.25 * FAST.first_wait_s


async def test_the_other_side_is_not_asked_sooner_than_it_asks_for() -> None:
    assert await waits(FAST, Unavailable("busy", retry_after_s=0.03)) == [0.03]


async def test_hurry_ends_a_wait() -> None:
    left = [Unavailable("no")]
    explained = asyncio.Event()

    async def explain(*_: object) -> None:
        explained.set()

    async def work() -> str:
        if left:
            raise left.pop()
        return "done"

    perseverance = Perseverance(Pace(first_wait_s=1000, longest_wait_s=1000), Progress(), explain)
    working = asyncio.create_task(perseverance.until_done(work))
    await explained.wait()
    await asyncio.sleep(0)
    perseverance.hurry()
    async with asyncio.timeout(5):
        assert await working == "done"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("12", 12.0), ("", 0.0), ("soon", 0.0), ("-3", 0.0), ("99999999", LONGEST_RETRY_AFTER_S)],
)
def test_retry_after_in_seconds(said: str, seconds: float) -> None:
    assert retry_after_s(httpx2.Headers({"Retry-After": said})) == seconds


def test_retry_after_as_a_date() -> None:
    said = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_after_s(httpx2.Headers({"Retry-After": said})) <= 30
