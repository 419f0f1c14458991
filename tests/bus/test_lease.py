"""Leases on a real nats-server: alone, renewed, run out, given up, watched."""

import asyncio
import time
from contextlib import aclosing

import pytest

from bus.bus import Bus
from bus.errors import LeaseLost
from bus.lease import LEADER, Holder
from schemas.ids import NodeId
from tests.conftest import ConnectBus

ONE = Holder(node=NodeId("n1"), incarnation="a")
TWO = Holder(node=NodeId("n2"), incarnation="b")


async def test_one_holder_at_a_time(bus: Bus) -> None:
    lease = await bus.leases.acquire(LEADER, ONE)
    with pytest.raises(LeaseLost, match="held by"):
        await bus.leases.acquire(LEADER, TWO)
    await lease.renew()
    assert lease.valid


async def test_a_race_has_one_winner(connect_bus: ConnectBus) -> None:
    buses = [await connect_bus(f"n{i}") for i in range(8)]
    tries = [
        bus.leases.acquire(LEADER, Holder(node=NodeId(f"n{i}"), incarnation="x"))
        for i, bus in enumerate(buses)
    ]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(r, LeaseLost) for r in results if isinstance(r, BaseException))


async def test_a_lease_that_is_not_renewed_runs_out_and_watchers_are_told(connect_bus: ConnectBus) -> None:
    bus = await connect_bus(lease_ttl_s=1.0)
    async with asyncio.timeout(20), aclosing(bus.leases.holders()) as pictures:
        assert await anext(pictures) == {}
        began = time.monotonic()
        lease = await bus.leases.acquire(LEADER, ONE)
        assert await anext(pictures) == {LEADER: ONE}
        assert await anext(pictures) == {}
    assert time.monotonic() - began > 0.9
    assert not lease.valid
    with pytest.raises(LeaseLost):
        await lease.renew()
    await bus.leases.acquire(LEADER, TWO)


async def test_a_lease_that_is_given_up_is_free_at_once(bus: Bus) -> None:
    lease = await bus.leases.acquire(LEADER, ONE)
    await lease.release()
    assert not lease.valid
    assert (await bus.leases.acquire(LEADER, TWO)).valid


async def test_a_node_that_returns_takes_its_own_lease_over(bus: Bus) -> None:
    old = await bus.leases.acquire("node.n1", ONE)
    new = await bus.leases.acquire("node.n1", Holder(node=NodeId("n1"), incarnation="later"))
    await new.renew()
    with pytest.raises(LeaseLost):
        await old.renew()


async def test_nobody_else_gets_a_lease_before_its_holder_knows_that_it_ran_out(
    connect_bus: ConnectBus,
) -> None:
    bus = await connect_bus(lease_ttl_s=1.7)
    lease = await bus.leases.acquire(LEADER, ONE)
    async with aclosing(bus.leases.holders()) as pictures:
        async for held in pictures:
            if LEADER not in held:
                break
    assert not lease.valid


async def test_watchers_hear_of_holders_and_not_of_renewals(bus: Bus) -> None:
    lease = await bus.leases.acquire("node.n1", ONE)
    async with aclosing(bus.leases.holders()) as pictures:
        assert await anext(pictures) == {"node.n1": ONE}
        for _ in range(5):
            await lease.renew()
        await bus.leases.acquire(LEADER, ONE)
        assert await anext(pictures) == {"node.n1": ONE, LEADER: ONE}


async def test_one_lease_can_be_watched_alone(bus: Bus) -> None:
    await bus.leases.acquire("node.n1", ONE)
    async with aclosing(bus.leases.holders(LEADER)) as pictures:
        assert await anext(pictures) == {}
        await bus.leases.acquire("node.n2", TWO)
        await bus.leases.acquire(LEADER, ONE)
        assert await anext(pictures) == {LEADER: ONE}
