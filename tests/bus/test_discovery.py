"""Nodes find each other by mDNS, and exactly one of those that start together becomes the first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from actors.machine.addresses import own_addresses
from bus.discovery import Neighbours, Notice
from schemas.ids import NodeId, new_node_id

Appear = Callable[..., Awaitable[Neighbours]]


@pytest.fixture
async def appear() -> AsyncIterator[Appear]:
    """`await appear("n1")`: a node on the network, in a cluster of this test's own."""
    cluster = f"test-{new_node_id()}"
    async with AsyncExitStack() as stack:

        async def make(
            node: str,
            *,
            remembers: bool = False,
            cluster: str = cluster,
            addresses: tuple[str, ...] = own_addresses(),
        ) -> Neighbours:
            notice = Notice(
                cluster=cluster,
                node=NodeId(node),
                stage="seeking",
                remembers=remembers,
                addresses=addresses,
            )
            neighbours = Neighbours(notice)
            await neighbours.open()
            stack.push_async_callback(neighbours.close)
            return neighbours

        yield make


async def settled(node: Neighbours) -> Notice | None:
    """What it finds; the first one's bus listens at once."""
    found = await node.find()
    if found is None:
        await node.say("bus", 4222)
    return found


async def test_of_those_that_start_at_once_one_is_first_and_the_others_join_it(appear: Appear) -> None:
    addresses = ("198.51.100.9", "10.0.0.7", "192.0.2.4")  # in the order in which they are worth a try
    nodes = await asyncio.gather(*(appear(f"n{number}", addresses=addresses) for number in range(4)))
    found = await asyncio.gather(*(settled(node) for node in nodes))
    assert found[0] is None
    assert [(other.node, other.port) for other in found[1:] if other] == [("n0", 4222)] * 3
    for other in filter(None, found):
        assert other.addresses[0] == addresses[0] and set(other.addresses) == set(addresses)


@pytest.mark.slow  # looking takes its time
async def test_who_remembers_the_cluster_goes_before_a_lower_id(appear: Appear) -> None:
    young, old = await appear("a"), await appear("z", remembers=True)
    joins, first = await asyncio.gather(settled(young), settled(old))
    assert first is None and joins is not None and joins.node == "z"


@pytest.mark.slow  # looking takes its time
async def test_a_late_one_joins_the_bus_whatever_its_id(appear: Appear) -> None:
    assert await settled(await appear("m")) is None
    late = await settled(await appear("a", remembers=True))
    assert late is not None and late.node == "m"


async def test_two_that_are_elected_at_the_same_moment_agree(appear: Appear) -> None:
    """Both have looked, and seen nobody; each has said that it is the first."""
    low, high = await appear("a"), await appear("b")
    assert await asyncio.gather(low._is_first(), high._is_first()) == [True, False]


@pytest.mark.slow  # looking takes its time
async def test_clusters_of_other_names_are_none_of_its_business(appear: Appear) -> None:
    here, there = await appear("a"), await appear("b", cluster="elsewhere")
    assert await asyncio.gather(here.find(), there.find()) == [None, None]


async def test_one_that_vanishes_is_not_waited_for(appear: Appear) -> None:
    gone, stays = await appear("a"), await appear("b")
    finding = asyncio.create_task(stays.find())
    await stays.until(lambda: "a" in stays.seen, 10)
    await gone.close()
    async with asyncio.timeout(10):
        assert await finding is None
