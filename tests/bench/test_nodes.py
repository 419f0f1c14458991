"""Many nodes: how a leader, an API and the bus cope with 100, 300 and 1,000 of them, and what happens when a tenth dies.

Times are those that the bus gave the events. `BENCH_NODES=100,300` sets the sizes, `BENCH_VIEWS` how many of
the simulated nodes follow the log by themselves.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel, UnloadModel
from schemas.events import (
    DownloadReported,
    InstancePlaced,
    InstanceRetried,
    LeaderElected,
    ModelDescribed,
    ModelDesired,
    NodeJoined,
    NodeLost,
    Recorded,
    RunnerReported,
)
from schemas.ids import ModelId, NodeId
from schemas.model import ModelCard, ModelSpec
from schemas.state import State
from tests.bench.hive import Hive
from tests.bench.processes import CpuMeter
from tests.bench.swarm import GIB, name_of
from tests.bench.table import Table, ms, percentile
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = pytest.mark.bench

SIZES = [int(each) for each in os.environ.get("BENCH_NODES", "100,300,1000").split(",")]
VIEWS = int(os.environ.get("BENCH_VIEWS", "10"))
QUIET = ("--model", "none", "--log-level", "info")
IDLE_S = 10.0
MANY = 100
PROBES = 200
LAYERS = 32
CARD = ModelCard(
    architecture="llama",
    weights_bytes=4 * GIB,
    parameters=4 * 10**9,
    vocabulary=32_000,
    context=4096,
    eos_ids=(2,),
    artifact="nobody-reads-it",
    layer_bytes=(4 * GIB // LAYERS,) * LAYERS,
    hidden=4096,
    heads=32,
    kv_heads=8,
    cache_bytes=4096,
)
"""Of a model that fits any of the nodes."""


class Cluster:
    """A leader, a door and a swarm on one bus."""

    def __init__(self, bus: Bus, hive: Hive, pids: dict[str, int], size: int, table: Table) -> None:
        self.bus = bus
        self.hive = hive
        self.size = size
        self.pids = pids
        self._table = table

    def add(self, what: str, value: str, note: str = "", aim: str = "") -> None:
        self._table.add(f"Many nodes: {self.size}", what, value, aim, note)

    async def cpu(self, what: str, seconds: float = IDLE_S) -> None:
        meter, began = CpuMeter(self.pids), time.monotonic()
        await self.hive.lag()
        await asyncio.sleep(seconds)
        lag = await self.hive.lag()
        took = time.monotonic() - began
        used = ", ".join(f"{name} {100 * cpu / took:.0f} %" for name, cpu in meter.read().items())
        self.add(what, used, f"of a core; the harness itself {lag}")

    async def since(self, seq: int) -> list[Recorded]:
        return [recorded async for recorded in self.bus.log.past(after=seq)]


@asynccontextmanager
async def cluster(size: int, table: Table, start_node: StartNode, server: Server) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        nats = ("--nats", server.url, *QUIET)
        leader = await start_node("leader", *nats, "--no-worker", "--no-api")
        door = await start_node("door", *nats, "--api-only")
        bus = await stack.enter_async_context(watching(leader))
        hive = await stack.enter_async_context(Hive.of(server.url))
        pids = pids_of(leader, door, server)
        yield Cluster(bus, hive, pids, size, table)


def pids_of(leader: NodeProcess, door: NodeProcess, server: Server) -> dict[str, int]:
    return {"leader": leader.process.pid, "API": door.process.pid, "nats-server": server.pid or 0}


@pytest.mark.parametrize("size", SIZES)
async def test_many_nodes(table: Table, start_node: StartNode, nats_server: Server, size: int) -> None:
    async with cluster(size, table, start_node, nats_server) as there:
        await joins(there)
        await there.cpu("idle")
        await lags(there)
        await placements(there)
        await a_tenth_dies(there)
        await nothing_false(there)


async def joins(there: Cluster) -> None:
    meter, began = CpuMeter(there.pids), time.time()
    await there.hive.grow(there.size, min(VIEWS, there.size))
    names = {name_of(number) for number in range(there.size)}
    await there.bus.view.until(lambda state: names <= state.nodes.keys(), timeout_s=120)
    joined = [one for one in await there.since(0) if isinstance(one.event, NodeJoined)]
    lag = await there.hive.lag()
    used = ", ".join(f"{name} {cpu:.1f} s" for name, cpu in meter.read().items())
    there.add(
        "until all are members",
        f"{joined[-1].time - began:.1f} s",
        f"of CPU: {used}; the harness itself {lag}",
    )
    await there.bus.view.until(lambda state: names <= state.links.keys(), timeout_s=120)


async def lags(there: Cluster) -> None:
    """From an append to the observer's state, and to what the leader decides on it."""
    seen: list[float] = []
    for number in range(PROBES):
        began = time.perf_counter()
        fact = DownloadReported(
            node=NodeId("probe"), model=ModelId("probe"), source="/x", status="downloading", bytes_done=number
        )
        seq = await there.bus.log.record(fact)
        await there.bus.view.until(lambda state, seq=seq: state.seq >= seq)
        seen.append(time.perf_counter() - began)
    there.add(
        "an append is in an observer's state",
        f"p50 {ms(percentile(seen, 0.5))}, p99 {ms(percentile(seen, 0.99))}",
    )
    await load(there, "react", replicas=32)
    last = there.bus.view.state.seq
    for instance in there.bus.view.state.instances_of(ModelId("react")):
        (shard,) = instance.shards
        await there.bus.log.record(
            RunnerReported(
                instance=instance.id,
                node=shard.node,
                attempt=instance.attempt,
                status="failed",
                reason="probe",
            )
        )
        await there.bus.view.until(lambda state, one=instance: state.instances[one.id].attempt > one.attempt)
    failed, reacted = {}, []
    for one in await there.since(last):
        if isinstance(one.event, RunnerReported) and one.event.status == "failed":
            failed[one.event.instance] = one.time
        if isinstance(one.event, InstanceRetried):
            reacted.append(one.time - failed[one.event.instance])
    there.add(
        "a fact, until the leader's decision on it is in the log",
        f"p50 {ms(percentile(reacted, 0.5))}, p99 {ms(percentile(reacted, 0.99))}",
    )
    await unload(there, ["react"])


async def placements(there: Cluster) -> None:
    for what, replicas in (("one", 1), ("ten", 10)):
        last = there.bus.view.state.seq
        await load(there, what, replicas)
        there.add(
            f"{replicas} of a model: from the wish to the last placement",
            ms(deciding_s(await there.since(last))),
        )
    last = there.bus.view.state.seq
    names = [f"many{number}" for number in range(MANY)]
    await asyncio.gather(*(load(there, name, 1) for name in names))
    events = await there.since(last)
    on = Counter(one.event.shards[0].node for one in events if isinstance(one.event, InstancePlaced))
    took = max(one.time for one in events) - events[0].time
    there.add(
        f"{MANY} models at once: from the first wish to the last placement",
        ms(deciding_s(events)),
        f"all ready after {took:.1f} s; most on one node: {max(on.values())}",
    )
    await unload(there, ["one", *names])


async def a_tenth_dies(there: Cluster) -> None:
    await load(there, "ballast", 64)
    last = there.bus.view.state.seq
    died, doomed = time.time(), await there.hive.kill()
    await there.bus.view.until(
        lambda state: all(not state.nodes[node].alive for node in doomed), timeout_s=60
    )
    await there.bus.view.until(lambda state: healed(state, doomed), timeout_s=60)
    events = await there.since(last)
    lost = [one.time - died for one in events if isinstance(one.event, NodeLost)]
    moved = [one.time - died for one in events if isinstance(one.event, InstanceRetried)]
    there.add(
        f"{len(doomed)} nodes die at once: NodeLost",
        f"first {min(lost):.2f} s, last {max(lost):.2f} s",
        "the lease has 2 to 3 s left",
    )
    if moved:
        there.add("what they carried is placed again", f"last {max(moved):.2f} s", f"{len(moved)} instances")
    await there.cpu("idle, a tenth is gone", 5)


def healed(state: State, doomed: set[NodeId]) -> bool:
    there = list(state.instances.values())
    return all(one.status == "ready" and not one.nodes & doomed for one in there)


async def nothing_false(there: Cluster) -> None:
    events = await there.since(0)
    lost = {one.event.node for one in events if isinstance(one.event, NodeLost)}
    false = lost - there.hive.dead
    reigns = sum(isinstance(one.event, LeaderElected) for one in events)
    there.add("living nodes called lost, leaders", f"{len(false)}, {reigns}", "", "0, 1")


async def load(there: Cluster, name: str, replicas: int) -> None:
    model = ModelId(name)
    await there.bus.log.record(ModelDescribed(model=model, source="/models/x", card=CARD))
    spec = ModelSpec(id=model, source="/models/x", replicas=replicas)
    answer = await command(there.bus, LoadModel(spec=spec), deadline_s=60)
    assert isinstance(answer, Done), answer
    await there.bus.view.until(
        lambda state: sum(one.status == "ready" for one in state.instances_of(model)) == replicas,
        timeout_s=60,
    )


async def unload(there: Cluster, names: list[str]) -> None:
    for name in names:
        await command(there.bus, UnloadModel(model=ModelId(name)), deadline_s=60)
    gone = {ModelId(name) for name in names}
    await there.bus.view.until(
        lambda state: not any(one.spec.id in gone for one in state.instances.values()), 60
    )


def deciding_s(events: list[Recorded]) -> float:
    wished = [one.time for one in events if isinstance(one.event, ModelDesired)]
    placed = [one.time for one in events if isinstance(one.event, InstancePlaced)]
    return max(placed) - min(wished)
