"""The log on a real nats-server: order, fencing, facts that are stored once, gap repair."""

import asyncio
import os
import signal
from contextlib import aclosing

import pytest

from bus.bus import Bus
from bus.errors import Fenced
from bus.server import Server
from schemas.events import LeaderElected, ModelDesired, ModelRemoved, Recorded, UnknownEvent
from schemas.ids import ModelId, NodeId
from schemas.model import ModelSpec
from tests.conftest import ConnectBus
from tests.facts import joined


async def collect(bus: Bus, count: int, after: int = 0) -> list[Recorded]:
    found: list[Recorded] = []
    async with asyncio.timeout(20), aclosing(bus.log.follow(after)) as events:
        async for recorded in events:
            found.append(recorded)
            if len(found) == count:
                return found
    raise AssertionError("the log ended")


async def test_decisions_and_facts_are_read_in_the_order_of_their_sequences(bus: Bus) -> None:
    first = await bus.log.decide(LeaderElected(node=NodeId("n1"), term=7), term=7, after=0)
    second = await bus.log.record(joined("n1"))
    third = await bus.log.decide(ModelDesired(spec=ModelSpec(id=ModelId("org/m.1"), source="/m")), 7, first)
    found = await collect(bus, 3)
    assert [recorded.seq for recorded in found] == [first, second, third] == [1, 2, 3]
    assert [recorded.term for recorded in found] == [7, 0, 7]
    assert {recorded.by for recorded in found} == {"n1"}
    assert found[0].event == LeaderElected(node=NodeId("n1"), term=7)


async def test_a_decision_after_somebody_elses_is_refused_by_the_server(
    bus: Bus, connect_bus: ConnectBus
) -> None:
    other = await connect_bus("n2")
    first = await bus.log.decide(LeaderElected(node=NodeId("n1"), term=1), 1, 0)
    await other.log.decide(LeaderElected(node=NodeId("n2"), term=2), 2, first)
    with pytest.raises(Fenced, match="refused, somebody else wrote since: wrong last sequence: 2"):
        await bus.log.decide(ModelRemoved(model=ModelId("m")), 1, first)
    assert await bus.log.last_decision() == 2


async def test_facts_in_between_do_not_fence_the_leader(bus: Bus) -> None:
    first = await bus.log.decide(LeaderElected(node=NodeId("n1"), term=1), 1, 0)
    await bus.log.record(joined("n2"))
    assert await bus.log.decide(ModelRemoved(model=ModelId("m")), 1, first) == 3


async def test_garbage_in_the_log_is_kept_and_skipped(bus: Bus) -> None:
    await bus.send_raw("troupe.evt.seen.node.n1", b"\xff\x00 garbage")
    await bus.send_raw("troupe.evt.decided.thing.x", b'{"type": "FromTheFuture", "x": 1}')
    await bus.log.record(joined("n1"))
    found = await collect(bus, 3)
    assert isinstance(found[0].event, UnknownEvent) and found[0].event.type == ""
    assert isinstance(found[1].event, UnknownEvent) and found[1].event.type == "FromTheFuture"
    assert found[1].event.raw == b'{"type": "FromTheFuture", "x": 1}'
    state = await bus.view.until(lambda state: state.seq == 3)
    assert list(state.nodes) == ["n1"]


async def test_followers_and_writers_live_through_a_killed_server(bus: Bus, nats_server: Server) -> None:
    watch = asyncio.create_task(nats_server.watch())
    before = [await bus.log.record(joined(f"a{i}")) for i in range(50)]
    following = asyncio.create_task(collect(bus, 100))
    os.kill(nats_server.pid, signal.SIGKILL)
    after = [await bus.log.record(joined(f"b{i}")) for i in range(50)]
    found = await following
    watch.cancel()
    assert [recorded.seq for recorded in found] == before + after == list(range(1, 101))


async def test_a_long_log_is_read_without_a_gap(bus: Bus) -> None:
    subject = bus.subjects.event(joined("n"))
    for i in range(5000):
        bus.post(subject, b'{"type":"FromTheFuture","i":%d}' % i)
    found = await collect(bus, 5000)
    assert [recorded.seq for recorded in found] == list(range(1, 5001))
