"""Freezes that last longer than a runner may be silent: nobody is taken for dead who is not."""

import asyncio
import os

import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.events import NodeLost
from tests.chaos.cluster import frozen
from tests.conftest import ConnectBus
from tests.nodes import StartNode, watching
from tests.scenes.test_runner_death import answered, client_of, load

FREEZE_S = 16.0
"""A runner that is silent for 10 s is ended; 6 s of silence is a bus that is away."""


@pytest.mark.chaos
async def test_a_bus_that_was_frozen_costs_no_runner(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus:
        instance, runners = await load(bus), node.runner_pids()
        await frozen(node.bus_pid(), FREEZE_S)
        await bus.view.until(lambda state: state.leader and state.leader.seq > instance.seq, timeout_s=30)
        assert await answered(client_of(node))
        assert (node.runner_pids(), bus.view.state.instances[instance.id].attempt) == (runners, 1)
    assert "actor.failed" not in node.journal


@pytest.mark.chaos
async def test_after_a_short_freeze_of_the_bus_nobody_is_taken_for_lost(start_node: StartNode) -> None:
    """Every lease ran out while the bus was frozen, but no connection was lost."""
    first = await start_node("a", "--model", "none")
    others = [await start_node(n, "--nats", first.info.nats_url, "--model", "none") for n in ("b", "c")]
    async with watching(first) as bus:
        instance = await load(bus)
        for _ in range(3):
            await asyncio.sleep(7)  # the bus has been steady for longer than two lives of a lease
            elected = bus.view.state.seq
            await frozen(first.bus_pid(), 4.5)
            await bus.view.until(
                lambda state, seq=elected: state.leader and state.leader.seq > seq, timeout_s=30
            )
            assert await answered(client_of(others[1]))
        lost = [each.event async for each in bus.log.past() if isinstance(each.event, NodeLost)]
        assert (lost, bus.view.state.instances[instance.id].attempt) == ([], 1)


@pytest.mark.chaos
async def test_a_worker_that_was_frozen_does_not_end_its_runner(start_node: StartNode) -> None:
    """Its lease ran out, so the cluster has placed the instance afresh; but by itself it condemns nobody."""
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus:
        await load(bus)
        await frozen(node.process.pid, FREEZE_S)
        assert await answered(client_of(node))
        await bus.view.until(lambda state: state.nodes[node.node].alive and state.leader, timeout_s=30)
    assert "runner.condemned" not in node.journal
    assert "actor.failed" not in node.journal


@pytest.mark.chaos
async def test_a_frozen_workers_instance_goes_elsewhere_and_its_runner_goes_too(
    start_node: StartNode, nats_server: Server, connect_bus: ConnectBus
) -> None:
    flags = ("--nats", nats_server.url, "--model", "none")
    api = await start_node("api", *flags, "--no-worker")
    sleeper = await start_node("sleeper", *flags, "--no-api", "--no-master")
    bus: Bus = await connect_bus("test")
    instance = await load(bus)
    other = await start_node("other", *flags, "--no-api", "--no-master")
    assert instance.nodes == {sleeper.node}
    (runner,) = sleeper.runner_pids()
    await frozen(sleeper.process.pid, FREEZE_S)
    moved = bus.view.state.instances[instance.id]
    assert (moved.nodes, moved.status) == ({other.node}, "ready")
    assert await answered(client_of(api))
    await bus.view.until(lambda state: state.nodes[sleeper.node].alive, timeout_s=30)
    for _ in range(100):
        if runner not in sleeper.runner_pids():
            break
        os.sched_yield()
        await bus.log.bounds()
    else:
        raise AssertionError("the runner of an attempt that is over is still there")
