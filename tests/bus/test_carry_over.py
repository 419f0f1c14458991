"""A single server's streams in a bus of three: all of it, with its numbers, whenever the one who carries is killed."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from bus.bus import Bus
from bus.carry_over import CarryOver
from bus.clusters import is_being_carried, limits_of
from bus.connection import Connection
from bus.errors import BusAway, UnusableServer
from bus.server import Server
from bus.streams import StreamLimits, Streams
from schemas.events import LeaderElected
from schemas.ids import NodeId
from tests.bus.three import three_servers
from tests.facts import joined
from tests.nodes import HERE

EVENTS = 3000
CARRIER = """
import asyncio, sys
from pathlib import Path
from bus.carry_over import CarryOver
asyncio.run(CarryOver(Path(sys.argv[1]), "troupe").run(sys.argv[2], 60))
"""


async def alone(folder: Path) -> Server:
    server = Server(folder, port=0)
    await server.start()
    return server


async def fill(server: Server) -> None:
    """Events, a state behind them, an audit's like, an object, tasks of which one was taken."""
    bus = await Bus.connect(server.url, "troupe", "test", NodeId("n1"))
    await asyncio.gather(*(bus.log.record(joined(f"n{number}")) for number in range(EVENTS)))
    seq = await bus.log.decide(LeaderElected(node=NodeId("n1"), term=7), 7, after=0)
    assert seq == EVENTS + 1
    await bus.view.start()
    await bus.snapshots.write(bus.view.state)
    await bus.artifacts.put("big", os.urandom(3_000_000))
    jetstream = bus.connection.jetstream
    for number in range(5):
        await jetstream.publish("troupe.task.m.high", b"%d" % number, headers={"Nats-TTL": "1h"})
    await jetstream.delete_msg("troupe_tasks", 2)
    await bus.close()


Message = tuple[int, str, bytes, dict[str, str]]


async def contents(bus: Bus) -> dict[str, list[Message]]:
    """Every message of every stream on file, with its sequence and headers."""
    found: dict[str, list[Message]] = {}
    for info in await bus.connection.jetstream.streams_info():
        name, state = info.config.name or "", info.state
        if name != Streams("troupe").out and state.messages:
            seqs = range(state.first_seq, state.last_seq + 1)
            messages = await asyncio.gather(*(message(bus, name, seq) for seq in seqs))
            found[name] = [one for one in messages if one is not None]
    return found


async def message(bus: Bus, stream: str, seq: int) -> Message | None:
    try:
        got = await bus.connection.jetstream.get_msg(stream, seq)
    except NotFoundError:
        return None
    return seq, got.subject or "", got.data or b"", got.headers or {}


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """The first one's folder is what a server alone has left, prepared to be carried over; none is started."""
    made = three_servers(tmp_path)
    yield made
    await asyncio.gather(*(server.stop() for server in made))
    for name in ("s0", "s1"):
        left = Server(tmp_path / name / "alone")
        if left.adopt():
            await left.stop()


async def carry_and_be_killed(folder: Path, url: str, after: int) -> None:
    """Kill -9 of the carrying process when it has told of `after` streams."""
    carrier = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CARRIER, str(folder), url),
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert carrier.stdout is not None
    seen = 0
    while seen < after:
        line = await carrier.stdout.readline()
        assert line, "it ended by itself"
        seen += b"stream.carried" in line
    carrier.send_signal(signal.SIGKILL)
    await carrier.wait()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_everything_is_carried_over_however_often_it_is_killed(
    tmp_path: Path, three: list[Server]
) -> None:
    folder = tmp_path / "s0"
    old = await alone(folder)
    await fill(old)
    before_bus = await Bus.connect(old.url, "troupe", "test", NodeId("n1"))
    await before_bus.view.start()
    before, state = await contents(before_bus), before_bus.view.state
    await before_bus.close()
    # its server is left running, as by a node that was killed
    carry_over = CarryOver(folder, "troupe")
    await carry_over.prepare()
    await asyncio.gather(*(server.start() for server in three))
    other = asyncio.create_task(
        Bus.connect(three[1].url, "troupe", "other", NodeId("n2"), joins=True, deadline_s=100)
    )
    onlooker = await Connection.open(three[2].url, "onlooker", 60)
    for after in (1, 5, 10):
        await carry_and_be_killed(folder, three[0].url, after)
        assert CarryOver(folder, "troupe").pending and not other.done(), "nobody begins with a half"
        with pytest.raises(BusAway, match="being carried over"):
            await limits_of(onlooker, "troupe")
    await onlooker.close()
    await carry_over.run(three[0].url, 60)
    assert not carry_over.pending
    bus = await other
    assert not await is_being_carried(bus.connection, "troupe")
    await bus.view.start()
    assert await contents(bus) == before and bus.view.state == state
    infos = await bus.connection.jetstream.streams_info()
    assert {info.config.num_replicas for info in infos if info.config.name != "troupe_out"} == {3}
    await three[0].stop()
    async with asyncio.timeout(60):
        seq = await bus.log.decide(
            LeaderElected(node=NodeId("n2"), term=8), 8, after=EVENTS + 1, deadline_s=60
        )
    assert seq == EVENTS + 2
    await bus.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_bus_that_carries_the_cluster_already_is_left_alone(
    tmp_path: Path, three: list[Server]
) -> None:
    old = await alone(tmp_path / "s0")
    await (await Bus.connect(old.url, "troupe", "test", NodeId("n1"))).close()
    carry_over = CarryOver(tmp_path / "s0", "troupe")
    await carry_over.prepare()
    await asyncio.gather(*(server.start() for server in three))
    bus = await Bus.connect(
        three[1].url, "troupe", "test", NodeId("n2"), limits=StreamLimits.of_three(), deadline_s=60
    )
    seq = await bus.log.record(joined("n2"))
    with pytest.raises(UnusableServer, match="carry a cluster named 'troupe' already"):
        await carry_over.run(three[0].url, 60)
    assert await bus.log.bounds() == (1, seq)
    await bus.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_two_carriers_and_what_others_have_stored_do_not_mix(
    tmp_path: Path, three: list[Server]
) -> None:
    """The three are named in another order on another machine; or a stream of ours is one of theirs too."""
    carriers: list[CarryOver] = []
    for name in ("s0", "s1"):
        old = await alone(tmp_path / name)
        bus = await Bus.connect(old.url, "troupe", "test", NodeId("n1"))
        await bus.log.record(joined(name))
        other = await Bus.connect(old.url, "other", "test", NodeId("n1"))
        await other.log.record(joined(name))
        await bus.close()
        await other.close()
        carriers.append(CarryOver(tmp_path / name, "troupe"))
        await carriers[-1].prepare()
    first, second = carriers
    await asyncio.gather(*(server.start() for server in three))
    bus = await Bus.connect(
        three[2].url, "other", "test", NodeId("n2"), limits=StreamLimits.of_three(), deadline_s=60
    )
    seq = await bus.log.record(joined("n2"))
    with pytest.raises(UnusableServer, match=r"nothing is written over: .*other_events"):
        await first.run(three[0].url, 60)
    assert await bus.log.bounds() == (1, seq)
    for info in await bus.connection.jetstream.streams_info():
        await bus.connection.jetstream.delete_stream(str(info.config.name))

    await carry_and_be_killed(tmp_path / "s0", three[0].url, after=1)
    with pytest.raises(UnusableServer, match="another single server had stored is being carried over"):
        await second.run(three[1].url, 60)
    await first.run(three[0].url, 60)
    carried = await Bus.connect(three[1].url, "troupe", "test", NodeId("n3"), joins=True, deadline_s=60)
    assert [one.event async for one in carried.log.past()] == [joined("s0")]
    await carried.close()
    await bus.close()


async def test_a_folder_that_is_being_carried_over_is_refused_as_any_other(tmp_path: Path) -> None:
    old = await alone(tmp_path)
    pid = old.pid
    carry_over = CarryOver(tmp_path, "troupe")
    assert not carry_over.pending
    await carry_over.prepare()
    await carry_over.prepare()
    assert carry_over.pending and (tmp_path / "alone" / "store" / "jetstream").exists()
    assert not Server(tmp_path).adopt() and pid, "the server that was left running is stopped first"
    with pytest.raises(UnusableServer, match=r"one of several.*--bus-peers as before"):
        await Server(tmp_path, port=0).start()


async def test_an_earlier_store_is_not_written_over(tmp_path: Path) -> None:
    old = await alone(tmp_path)
    await old.stop()
    (tmp_path / "alone" / "store").mkdir(parents=True)
    with pytest.raises(UnusableServer, match="move it away first"):
        await CarryOver(tmp_path, "troupe").prepare()
    await (again := Server(tmp_path, port=0)).start()
    await again.stop()
