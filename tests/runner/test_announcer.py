"""What a runner says of its prefixes: whole at first and now and then, changes between, numbered, bounded."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from actors.engine.port import PrefixChanges
from actors.runner.announcer import Announcer
from bus.bus import Bus
from schemas.prefix import MOST_DIGESTS, Digest, Prefixes, block_digests, join, split
from schemas.task import pack_ids
from tests.engine.running import a_task
from tests.runner.client import INSTANCE, Client
from tests.runner.conftest import StartRunner

ROW = list(block_digests(pack_ids([7] * 32 * 10)))


class Listener:
    """Keeps every message in order."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Prefixes] = asyncio.Queue()

    def hear(self, payload: bytes, _: str) -> None:
        self._heard.put_nowait(msgspec.msgpack.decode(payload, type=Prefixes))

    async def next(self) -> Prefixes:
        async with asyncio.timeout(30):
            return await self._heard.get()

    async def until(self, fits: Callable[[set[Digest]], bool]) -> set[Digest]:
        """What is there by all messages so far, none of which was lost."""
        there: set[Digest] = set()
        number = 0
        while True:
            news = await self.next()
            number += 1
            assert (news.instance, news.attempt, news.number) == (INSTANCE, 3, number)
            there = (set() if news.whole else there - set(split(news.removed))) | set(split(news.added))
            if fits(there):
                return there


@pytest.fixture
async def listener(bus: Bus) -> AsyncIterator[Listener]:
    listener = Listener()
    async with bus.listening(bus.subjects.all_prefixes, listener.hear):
        await bus.connection.client.flush()
        yield listener


@asynccontextmanager
async def announcing(bus: Bus, whole_every_s: float) -> AsyncIterator[Announcer]:
    announcer = Announcer(bus, INSTANCE, 3, whole_every_s)
    running = asyncio.create_task(announcer.run())
    yield announcer
    running.cancel()
    await asyncio.wait((running,))


async def test_all_at_first_and_then_what_changes(bus: Bus, listener: Listener) -> None:
    async with announcing(bus, 1e6) as announcer:
        announcer.note(PrefixChanges(added=tuple(ROW[:4])))
        assert await listener.next() == Prefixes(INSTANCE, 3, 1, True, join(ROW[:4]))
        announcer.note(PrefixChanges(added=tuple(ROW[4:6]), removed=tuple(ROW[3:4])))
        assert await listener.next() == Prefixes(INSTANCE, 3, 2, False, join(ROW[4:6]), ROW[3])
        announcer.note(PrefixChanges(added=(ROW[3],), removed=(ROW[0], b"no such!")))
        assert await listener.next() == Prefixes(INSTANCE, 3, 3, False, ROW[3], ROW[0])


async def test_all_of_it_is_said_again_and_again(bus: Bus, listener: Listener) -> None:
    async with announcing(bus, 0.0) as announcer:
        assert await listener.next() == Prefixes(INSTANCE, 3, 1, True)
        announcer.note(PrefixChanges(added=tuple(ROW)))
        while (news := await listener.next()).added == b"":
            assert news.whole
        assert news.whole and news.added == join(ROW)
        again = await listener.next()
        assert again.whole and again.added == join(ROW) and again.number == news.number + 1


async def test_where_there_are_too_many_others_follow_when_some_go(bus: Bus, listener: Listener) -> None:
    many = [number.to_bytes(8) for number in range(MOST_DIGESTS + 10)]
    async with announcing(bus, 1e6) as announcer:
        announcer.note(PrefixChanges(added=tuple(many)))
        assert (await listener.next()).added == join(many[:MOST_DIGESTS])
        announcer.note(PrefixChanges(removed=tuple(many[:3])))
        news = await listener.next()
        assert split(news.added) == many[MOST_DIGESTS : MOST_DIGESTS + 3] and len(split(news.removed)) == 3


@pytest.mark.parametrize("engine", ["mlx", "simulated"])
async def test_a_runner_tells_what_its_engine_keeps(
    start_runner: StartRunner, client: Client, listener: Listener, engine: str
) -> None:
    prompt = [at % 900 + 2 for at in range(200)]
    read = set(block_digests(pack_ids(prompt)))
    await start_runner(engine=engine, cache_tokens=10_000)
    await client.until_status("ready")
    await client.until_accepted(a_task(prompt))
    await listener.until(lambda there: read <= there)
