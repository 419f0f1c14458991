"""What a link is worth, measured for real; and who is measured, when, by whom."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TypeGuard

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.links.surveyor import MOST_LINKS, Surveyor, differs, peers
from actors.links.yardstick import Measured, be_measured, measure
from bus.bus import Bus
from bus.errors import NobodyThere
from schemas.commands import Done, LinkLost, LinkNoted
from schemas.events import LinksMeasured
from schemas.ids import NodeId
from schemas.link import Link
from schemas.node import Role
from schemas.state import Node, State
from tests.conftest import ConnectBus
from tests.facts import joined, profile

SECRET = "0123456789abcdef"


@asynccontextmanager
async def waiting() -> AsyncIterator[int]:
    """The port of one who waits to be measured."""
    async with await asyncio.start_server(lambda r, w: be_measured(r, w, SECRET), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_link_has_a_latency_and_a_bandwidth() -> None:
    async with waiting() as port:
        measured = await measure("127.0.0.1", port, SECRET)
    assert 0 < measured.latency_s < 1 and measured.bandwidth_bytes_s > 1e6, measured


async def test_an_older_node_measures_as_it_did() -> None:
    """Each echo was one of its event loop's, the first sent after the secret without waiting."""
    async with waiting() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SECRET.encode())
        for _ in range(16):
            writer.write(b".")
            assert await reader.readexactly(1) == b"."
        writer.write(b"0.2\n" + bytes(100_000))
        verdict = json.loads(await reader.readline())
        writer.close()
    assert verdict["seconds"] > 0


async def test_an_older_node_is_measured_as_it_was() -> None:
    async def older(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(SECRET))
        for _ in range(16):
            writer.write(await reader.readexactly(1))
        assert 0.2 <= float(await reader.readline()) <= 1
        await reader.readexactly(100_000)
        writer.write(b'{"bytes_seen":100000,"seconds":0.5}\n')
        await reader.read()
        writer.close()

    async with await asyncio.start_server(older, "127.0.0.1", 0) as server:
        measured = await measure("127.0.0.1", server.sockets[0].getsockname()[1], SECRET)
    assert measured.bandwidth_bytes_s == 200_000


async def test_who_leaves_in_the_midst_of_echoes_is_said_to_have_left() -> None:
    async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(len(SECRET) + 1))[-1:])
        await reader.readexactly(1)
        writer.close()

    async with await asyncio.start_server(leaving, "127.0.0.1", 0) as server:
        with pytest.raises(OSError, match=r"left while|reset"):
            await measure("127.0.0.1", server.sockets[0].getsockname()[1], SECRET)


async def test_who_gives_up_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.links.yardstick.DEADLINE_S", 60.0)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    echoing = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(len(SECRET) + 1))[-1:])
        await reader.readexactly(1)
        echoing.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        measuring = asyncio.create_task(measure("127.0.0.1", server.sockets[0].getsockname()[1], SECRET))
        await echoing.wait()
        measuring.cancel()
        await asyncio.wait([measuring])
    await asyncio.wait_for(asyncio.to_thread(int), 30)  # there is one thread, which waits for nobody any more


async def test_who_does_not_know_the_secret_is_left_without_a_word() -> None:
    async with waiting() as port:
        with pytest.raises(OSError, match=r"left while|reset"):
            await measure("127.0.0.1", port, SECRET.upper())


@asynccontextmanager
async def surveying(connect_bus: ConnectBus) -> AsyncIterator[tuple[Bus, Bus]]:
    """The nodes `n1` and `n2`, which measure the way to each other while the block runs."""
    one, two = await connect_bus("n1"), await connect_bus("n2")
    for name in ("n1", "n2"):
        await one.log.record(joined(name))
    living = [asyncio.create_task(Surveyor(bus, ("127.0.0.1",)).run()) for bus in (one, two)]
    try:
        yield one, two
    finally:
        for task in living:
            task.cancel()
        await asyncio.wait(living)


def _reachable(state: State) -> bool | None:
    """Whether `n1` reaches `n2`, as it has said last."""
    return state.links[NodeId("n1")].links[0].reachable if "n1" in state.links else None


async def _said(bus: Bus) -> list[bool]:
    """All that it has said of that."""
    return [each.event.links[0].reachable async for each in bus.log.past() if _of(each.event, "n1")]


async def test_two_nodes_record_their_ways_to_each_other(
    connect_bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.links.surveyor.REFRESH_S", 0.5)  # the first may ask before the second listens
    async with surveying(connect_bus) as (one, _two):
        await one.view.until(lambda state: {"n1", "n2"} <= state.links.keys(), timeout_s=30)
        (link,) = one.view.state.links[NodeId("n1")].links
        assert (link.from_node, link.to_node, link.address) == ("n1", "n2", "127.0.0.1")


async def test_one_link_is_measured_again_at_a_time_the_oldest_first(
    connect_bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.links.surveyor.REFRESH_S", 0.01)
    bus = await connect_bus("n1")
    for name in ("n1", "n2", "n3"):
        await bus.log.record(joined(name))
    surveyor, others = Surveyor(bus, ("127.0.0.1",)), [NodeId("n2"), NodeId("n3")]
    await bus.view.until(lambda state: peers(state, bus.node) == others, timeout_s=5)
    surveyor._at = {NodeId("n2"): 2.0, NodeId("n3"): 1.0}
    assert await surveyor._oldest(others) == ["n3"]
    assert await surveyor._oldest(others[:1]) == [], "somebody came"


async def test_a_lost_link_is_believed_at_once_and_then_measured(
    connect_bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.links.surveyor.RETRY_S", 0.01)
    async with surveying(connect_bus) as (one, two):
        await one.view.until(_reachable, timeout_s=30)
        since = one.view.state.seq
        assert isinstance(
            await two.ask(two.subjects.link(NodeId("n1")), LinkLost(to=NodeId("n2")), LinkNoted), Done
        )
        await one.view.until(lambda state: state.seq > since and bool(_reachable(state)), timeout_s=30)
        assert await _said(one) == [True, False, True]


async def test_a_lost_link_to_a_node_that_others_measure_is_measured_too(
    connect_bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.links.surveyor.MOST_LINKS", 0)  # both have others to measure
    monkeypatch.setattr("actors.links.surveyor.PAUSE_S", 0.01)
    async with surveying(connect_bus) as (one, two):
        await _lose(two, NodeId("n1"), NodeId("n2"))
        await one.view.until(_reachable, timeout_s=30)
        assert await _said(one) == [False, True]


async def _lose(bus: Bus, one: NodeId, two: NodeId) -> None:
    """Said to a surveyor that may have only just begun."""
    while True:
        with suppress(NobodyThere):
            assert isinstance(await bus.ask(bus.subjects.link(one), LinkLost(to=two), LinkNoted), Done)
            return


async def test_a_node_that_is_there_and_cannot_be_reached_is_said_to_be_so(
    connect_bus: ConnectBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.links.surveyor.measure", _nobody)
    async with surveying(connect_bus) as (one, _two):
        await one.view.until(lambda state: "n1" in state.links, timeout_s=30)
        assert not one.view.state.links[NodeId("n1")].links[0].reachable


async def _nobody(address: str, port: int, secret: str) -> Measured:
    raise TimeoutError(f"{address}:{port} does not answer to {secret}")


def _of(event: object, node: str) -> TypeGuard[LinksMeasured]:
    return isinstance(event, LinksMeasured) and event.node == node


def node(name: str, *roles: Role) -> Node:
    return Node(
        seq=1,
        id=NodeId(name),
        incarnation="i",
        name=name,
        profile=profile(),
        roles=roles or ("worker",),
        version="1",
    )


@given(st.integers(2, 100))
def test_in_a_large_cluster_each_measures_a_few_and_each_is_measured(count: int) -> None:
    names = [f"n{number:03}" for number in range(count)]
    state = State(nodes={NodeId(name): node(name) for name in names})
    chosen = {name: peers(state, NodeId(name)) for name in names}
    assert all(
        name not in others and len(others) == min(count - 1, MOST_LINKS) for name, others in chosen.items()
    )
    assert {each for others in chosen.values() for each in others} == set(names)


def test_who_carries_nothing_is_not_measured() -> None:
    state = State(nodes={NodeId(n): each for n, each in {"a": node("a"), "b": node("b", "api")}.items()})
    assert peers(state, NodeId("a")) == []


def test_small_changes_are_no_events() -> None:
    def link(latency_s: float, bandwidth: float, address: str = "a") -> Link:
        return Link(
            from_node=NodeId("1"),
            to_node=NodeId("2"),
            latency_s=latency_s,
            bandwidth_bytes_s=bandwidth,
            address=address,
        )

    assert differs(None, link(1, 1))
    assert not differs(link(1, 100), link(1.1, 90))
    assert differs(link(1, 100), link(1.5, 100)) and differs(link(1, 100), link(1, 10))
    assert differs(link(1, 1), link(1, 1, "b"))
