"""A node's lease and its place in the log, on a real bus: taken for lost by mistake, and cut off for longer than its lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from actors.membership import Membership
from bus.bus import Bus
from bus.lease import node_lease
from bus.reader import Reader, Stored
from bus.server import Server
from schemas.events import LeaderElected, NodeJoined, NodeLost
from schemas.ids import NodeId
from tests.conftest import ConnectBus
from tests.facts import joined
from tests.relay import relaying

NODE = NodeId("w1")


@asynccontextmanager
async def member(bus: Bus) -> AsyncIterator[None]:
    living = asyncio.create_task(Membership(bus, joined(NODE)).run())
    try:
        await bus.view.until(lambda state: NODE in state.nodes)
        yield
    finally:
        living.cancel()
        with suppress(asyncio.CancelledError):
            await living


async def lose(leader: Bus) -> int:
    decision = NodeLost(node=NODE, incarnation="one", why="its lease ran out")
    return await leader.log.decide(decision, 1, await leader.log.last_decision())


async def joined_after(leader: Bus, seq: int) -> float:
    """When; Unix time of the bus."""
    async with aclosing(leader.log.follow(after=seq)) as events:
        async for each in events:
            if isinstance(each.event, NodeJoined):
                return each.time
    raise AssertionError("the log ended")


async def held_after_loss(leader: Bus, lost: asyncio.Event) -> float:
    """When the lease that ran out was there again; Unix time of the bus."""
    key = f"$KV.troupe_leases.{node_lease(NODE)}"
    async with aclosing(Reader(leader.connection, "KV_troupe_leases", key).items()) as items:
        async for item in items:
            if isinstance(item, Stored) and not item.payload:
                lost.set()
            elif isinstance(item, Stored) and lost.is_set():
                return item.time
    raise AssertionError("a bucket is watched for ever")


async def test_who_is_taken_for_lost_and_holds_its_lease_joins_again(connect_bus: ConnectBus) -> None:
    leader, bus = await connect_bus("leader"), await connect_bus(NODE)
    await leader.log.decide(LeaderElected(node=leader.node, term=1), 1, 0)
    async with member(bus), asyncio.timeout(20):
        await joined_after(leader, await lose(leader))


async def test_who_was_cut_off_has_its_lease_before_it_joins(
    connect_bus: ConnectBus, nats_server: Server
) -> None:
    """Without one it would be lost again at once."""
    leader, lost = await connect_bus("leader"), asyncio.Event()
    await leader.log.decide(LeaderElected(node=leader.node, term=1), 1, 0)
    async with relaying(nats_server.port) as relay, asyncio.timeout(20):
        bus = await Bus.connect(relay.url, "troupe", "cut-off", NODE, lease_ttl_s=1.0)
        await bus.view.start()
        async with member(bus):
            holding = asyncio.create_task(held_after_loss(leader, lost))
            relay.cut()
            await lost.wait()
            seq = await lose(leader)
            relay.mend()
            assert await holding < await joined_after(leader, seq)
        await bus.close()


@pytest.mark.slow
async def test_who_cannot_see_its_joining_for_long_does_not_leave(connect_bus: ConnectBus) -> None:
    """The log has it, and the bus is too slow to tell: for longer than the half minute that it had been given."""
    leader, bus = await connect_bus("leader"), await connect_bus(NODE)
    await bus.view.stop()
    living = asyncio.create_task(Membership(bus, joined(NODE)).run())
    await leader.view.until(lambda state: NODE in state.nodes)
    ended, _ = await asyncio.wait([living], timeout=32)
    assert not ended and leader.view.state.nodes[NODE].alive
    await bus.view.start()
    async with asyncio.timeout(30):
        await joined_after(leader, await lose(leader))
    living.cancel()
    await asyncio.wait([living])
