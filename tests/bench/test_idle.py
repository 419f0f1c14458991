"""What a cluster says to itself when nobody asks it anything: nothing in the log, and a few messages a second.

`BENCH_IDLE_S` sets how long it is listened to.
"""

import asyncio
import os
from collections import Counter

import pytest
from nats.aio.msg import Msg

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import LoadModel
from schemas.events import LinksMeasured
from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.state import State
from tests.bench.processes import CpuMeter
from tests.bench.table import Table
from tests.lan import lan
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_lan import outside
from tests.scenes.test_three_servers import three

pytestmark = pytest.mark.bench

IDLE_S = float(os.environ.get("BENCH_IDLE_S", "60"))
SHOWN = 6
GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide")
QUIET = ("--log-level", "info")


@pytest.mark.parametrize("count", [1, 3])
async def test_an_idle_cluster_is_silent(
    table: Table, start_node: StartNode, nats_server: Server, count: int
) -> None:
    started = [await start_node(f"n{number}", "--nats", nats_server.url, *QUIET) for number in range(count)]
    async with watching(started[0]) as bus:
        await measure(
            table, f"{count} nodes, one server", bus, started, {"nats-server": nats_server.pid or 0}
        )


async def test_an_idle_cluster_of_three_servers_is_silent(table: Table, start_node: StartNode) -> None:
    with lan(3) as machines:
        started = await three(start_node, machines, *QUIET)
        async with outside(started[0]) as bus:
            await command(bus, LoadModel(spec=GUIDE), deadline_s=30)
            servers = {f"nats-server of {node.folder.name}": node.bus_pid() for node in started}
            await measure(table, "3 nodes, three servers", bus, started, servers)


async def measure(
    table: Table, what: str, bus: Bus, started: list[NodeProcess], servers: dict[str, int]
) -> None:
    """The log, the bus and the processors for `IDLE_S`, as soon as it is quiet."""
    await bus.view.until(lambda state: is_settled(state, len(started)), timeout_s=90)
    meter, last = CpuMeter(pids_of(started) | servers), bus.view.state.seq
    heard = await listened(bus, IDLE_S)
    used = {name: 100 * cpu / IDLE_S for name, cpu in meter.read().items()}
    events = [one.event async for one in bus.log.past(after=last)]
    told = [event for event in events if not isinstance(event, LinksMeasured)]
    most = ", ".join(f"{kind} {number / IDLE_S:.1f}" for kind, number in heard.most_common(SHOWN))
    group = f"An idle cluster: {what}, one model, {IDLE_S:g} s"
    per_minute, links = f"{len(told) * 60 / IDLE_S:g}", f"besides {len(events) - len(told)} of links"
    table.add(group, "events in the log a minute", per_minute, "0", links)
    table.add(group, "messages a second on the bus", f"{heard.total() / IDLE_S:.1f}", "", most)
    table.add(group, "CPU of a core", ", ".join(f"{name} {share:.1f} %" for name, share in used.items()))
    assert told == []


def is_settled(state: State, count: int) -> bool:
    """All are there, know the ways to each other, and the model is ready."""
    ways = [known for known in state.links.values() if len(known.links) == count - 1]
    ready = any(one.status == "ready" for one in state.instances_of(GUIDE.id))
    return ready and len(state.nodes) == count and (count == 1 or len(ways) == count)


async def listened(bus: Bus, seconds: float) -> Counter[str]:
    """How many messages of each kind went over the bus."""
    heard: Counter[str] = Counter()

    async def hear(message: Msg) -> None:
        heard[kind_of(message.subject)] += 1

    subscription = await bus.connection.subscribe(">", hear)
    await asyncio.sleep(seconds)
    await bus.connection.unsubscribe(subscription)
    return heard


def kind_of(subject: str) -> str:
    parts = subject.split(".")
    if parts[0] == "_INBOX":
        return "answers and deliveries"
    if parts[0] == "$JS":
        return ".".join(parts[:4])
    return ".".join(parts[:2]) + (".*.*" if len(parts) == 4 and parts[1] == "beat" else ".*")


def pids_of(nodes: list[NodeProcess]) -> dict[str, int]:
    named = {node.folder.name: node.process.pid for node in nodes}
    return named | {f"runner of {node.folder.name}": pid for node in nodes for pid in node.runner_pids()}
