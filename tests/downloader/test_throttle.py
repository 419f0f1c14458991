"""No more bytes a second from outside than somebody has allowed; what other nodes give is not counted."""

import asyncio
from pathlib import Path

from actors.downloader.sources.throttle import Throttle
from tests.downloader.member import Join
from tests.downloader.test_peers import size


async def test_all_who_fetch_share_the_limit() -> None:
    throttle, loop = Throttle(1_000_000), asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.gather(*(throttle.pass_on(20_000) for _ in range(10)))
    assert loop.time() - begun >= 0.19


async def test_without_a_limit_nobody_waits() -> None:
    throttle = Throttle()
    waits = asyncio.create_task(throttle.pass_on(1 << 60))
    await asyncio.sleep(0)
    assert waits.done()


async def test_a_pause_is_not_made_up_for_later() -> None:
    throttle, loop = Throttle(1_000_000), asyncio.get_running_loop()
    await throttle.pass_on(1)
    await asyncio.sleep(0.1)  # the pause: what was not used in it is not saved up
    begun = loop.time()
    await throttle.pass_on(50_000)
    assert loop.time() - begun >= 0.045


class Counting(Throttle):
    """Lets everything pass, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0

    async def pass_on(self, count: int) -> None:
        self.passed += count


async def test_every_byte_from_outside_is_counted_and_none_from_nodes(join: Join, llama: Path) -> None:
    first, second = await join("a"), await join("b")
    for member in (first, second):
        member.actor.sources.shelf.throttle = Counting()
        await member.pull()
        await member.pulled()
    counted = [member.actor.sources.shelf.throttle for member in (first, second)]
    assert [each.passed for each in counted if isinstance(each, Counting)] == [size(llama), 0]
