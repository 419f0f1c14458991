"""What rank 0 tells comes to the others once and in order, whatever the bus loses; and how ranks find each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from actors.engine.port import EngineLoadError
from actors.runner import gathering
from actors.runner.gathering import addresses, gathered
from actors.runner.job import RunnerJob
from actors.runner.reach import own_machine
from actors.runner.rounds import PIECE_BYTES, RoundsIn, RoundsOut
from bus.bus import Bus
from bus.server import Server
from schemas.group import Piece, Present, Seat
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec

INSTANCE = InstanceId("i1")
TIMEOUT_S = 20.0


class Heard:
    """The rounds that a rank was handed."""

    def __init__(self) -> None:
        self.rounds: list[bytes] = []
        self._news = asyncio.Event()

    def __call__(self, told: bytes) -> None:
        self.rounds.append(told)
        self._news.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.rounds) < count:
                self._news.clear()
                await self._news.wait()
        return self.rounds


@asynccontextmanager
async def listening(bus: Bus, heard: Heard) -> AsyncIterator[None]:
    async with RoundsIn(bus, INSTANCE, 1, heard).listening():
        assert await bus.answers(TIMEOUT_S)  # the server knows of it
        yield


async def test_rounds_of_any_size_come_in_order(bus: Bus) -> None:
    heard, out = Heard(), RoundsOut(bus, INSTANCE, 1)
    rounds = [b"one", b"two" * PIECE_BYTES, b"three"]
    async with listening(bus, heard), out.serving():
        for told in rounds:
            out.send(told)
        assert await heard.until(3) == rounds


async def test_what_was_missed_is_asked_for(bus: Bus) -> None:
    heard, out = Heard(), RoundsOut(bus, INSTANCE, 1)
    async with out.serving():
        out.send(b"one")
        out.send(b"two" * PIECE_BYTES)
        async with listening(bus, heard):
            out.send(b"three")
            assert await heard.until(3) == [b"one", b"two" * PIECE_BYTES, b"three"]


async def test_what_comes_twice_is_done_once(bus: Bus) -> None:
    heard, out = Heard(), RoundsOut(bus, INSTANCE, 1)
    async with listening(bus, heard), out.serving():
        out.send(b"one")
        out.send_again()
        await bus.send_raw(bus.subjects.group(INSTANCE, 1, "rounds"), b"garbage")
        out.send(b"two")
        assert await heard.until(2) == [b"one", b"two"]
        stale = msgspec.msgpack.encode(Piece(1, True, b"one"))
        await bus.send_raw(bus.subjects.group(INSTANCE, 1, "rounds"), stale)
        assert await bus.answers(TIMEOUT_S)
    assert heard.rounds == [b"one", b"two"]


async def test_what_was_told_while_the_bus_was_away_comes_when_it_is_back(
    bus: Bus, nats_server: Server
) -> None:
    heard, out = Heard(), RoundsOut(bus, INSTANCE, 1)
    inward = RoundsIn(bus, INSTANCE, 1, heard)
    async with inward.listening(), out.serving():
        watching = [asyncio.create_task(each.watch()) for each in (inward, out)]
        out.send(b"one")
        await heard.until(1)
        await nats_server.stop()
        await bus.connection.until_down()
        out.send(b"two")
        await nats_server.start()
        assert await heard.until(2) == [b"one", b"two"]
        for each in watching:
            each.cancel()


def job(nats_server: Server, rank: int, ranks: int = 3) -> RunnerJob:
    shards = tuple(
        Shard(node=NodeId(f"n{each}"), rank=each, layers=(each, each + 1)) for each in range(ranks)
    )
    return RunnerJob(
        nats_url=nats_server.url,
        cluster="troupe",
        node=NodeId(f"n{rank}"),
        instance=INSTANCE,
        attempt=1,
        spec=ModelSpec(id=ModelId("m"), source="x"),
        path="",
        rank=rank,
        shards=shards,
        split="pipeline",
    )


async def sit(bus: Bus, job: RunnerJob, all_sit: asyncio.Barrier) -> Seat:
    async with gathered(bus, job) as seat:
        await all_sit.wait()
        return seat


async def test_ranks_find_each_other_whoever_comes_first(bus: Bus, nats_server: Server) -> None:
    all_sit = asyncio.Barrier(3)
    early = asyncio.create_task(sit(bus, job(nats_server, 2), all_sit))
    others = asyncio.gather(*(sit(bus, job(nats_server, rank), all_sit) for rank in (0, 1)))
    async with asyncio.timeout(TIMEOUT_S):
        seats = [*await others, await early]
    assert [seat.rank for seat in seats] == [0, 1, 2]
    assert len({seat.addresses for seat in seats}) == 1
    assert seats[0].layers == (1, 1, 1)
    assert all(address.startswith("127.0.0.1:") for address in seats[0].addresses)


async def test_a_rank_that_does_not_come_is_named(
    bus: Bus, nats_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "PATIENCE_S", 0.2)
    with pytest.raises(EngineLoadError, match=r"ranks \[1, 2\] of i1 did not come"):
        await sit(bus, job(nats_server, 0), asyncio.Barrier(1))


async def test_a_rank_of_another_version_is_named_and_not_waited_for(bus: Bus, nats_server: Server) -> None:
    """It would do its steps in another order, and all would wait for ever."""
    older = {"type": "Present", "rank": 1, "host": "127.0.0.1", "port": 9, "machine": own_machine()}
    subject = bus.subjects.group(INSTANCE, 1, "present")

    def answer(payload: bytes, subject: str) -> None:
        if b'"rank":0' in payload:
            bus.post(subject, msgspec.json.encode(older))

    async with bus.listening(subject, answer):
        with pytest.raises(EngineLoadError, match="different versions: n1 and this one"):
            await sit(bus, job(nats_server, 0, ranks=2), asyncio.Barrier(1))


def test_only_ranks_of_one_machine_meet_on_loopback() -> None:
    here = [Present(rank=rank, host=f"10.0.0.{rank}", port=9, machine=own_machine()) for rank in (0, 1)]
    assert addresses(dict(enumerate(here))) == ("127.0.0.1:9", "127.0.0.1:9")
    there = msgspec.structs.replace(here[1], machine="another")
    assert addresses({0: here[0], 1: there}) == ("10.0.0.0:9", "10.0.0.1:9")
