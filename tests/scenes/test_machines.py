"""One model in four shards on four machines that found each other; their links are cut, starved and slow, one of them dies."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from bus.bus import Bus
from schemas.ids import ModelId, NodeId
from schemas.instance import Instance
from schemas.model import ModelSpec
from tests.lan import Machine, lan
from tests.models import make_random_llama
from tests.nodes import NodeProcess
from tests.scenes.test_lan import Plug, alive, outside, plug, stop
from tests.scenes.test_nats_cli import nats
from tests.scenes.test_runner_death import client_of, load, ready_again
from tests.scenes.test_shards import Reading

__all__ = ["plug"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BIG = ModelId("big")
TOKENS = 600
EVERYBODY = {"n1", "n2", "n3", "n4"}
Event = dict[str, Any]


class Scene:
    """Four machines, their nodes, and a client of the one with the bus, where nothing is cut."""

    def __init__(self, machines: list[Machine], nodes: list[NodeProcess], bus: Bus, client: Any) -> None:
        self.machines = machines
        self.nodes = nodes
        self.bus = bus
        self._client = client
        self.first = next(node for node in nodes if "127.0.0.1" in node.info.nats_url)
        self.others = [node for node in nodes if node is not self.first]

    def machine(self, node: NodeProcess) -> Machine:
        return self.machines[self.nodes.index(node)]

    def reading(self) -> Reading:
        return Reading(self._client, BIG, {"temperature": 0.8, "seed": 11}, TOKENS)

    async def begun(self) -> "asyncio.Task[list[str]]":
        """A stream that has brought its first words."""
        reading = self.reading()
        task = asyncio.create_task(reading.read())
        await reading.begun.wait()
        return task

    async def until_alive(self, names: set[str]) -> None:
        await self.bus.view.until(lambda state: alive(state) == names, timeout_s=60)

    def ring(self, instance: Instance) -> list[NodeId]:
        """Nodes in the order of ranks; each is joined to the next, and the last one to the first."""
        return [shard.node for shard in sorted(instance.shards, key=lambda shard: shard.rank)]

    def neighbours(self, instance: Instance) -> tuple[NodeProcess, NodeProcess]:
        """Two that are joined, neither of which has the bus."""
        ring = self.ring(instance)
        pairs = ((at, ring[(rank + 1) % len(ring)]) for rank, at in enumerate(ring))
        one, other = next(pair for pair in pairs if self.first.node not in pair)
        return self.node(one), self.node(other)

    def node(self, name: NodeId) -> NodeProcess:
        return next(node for node in self.nodes if node.node == name)

    async def log(self) -> list[Event]:
        """As the `nats` command line shows it to anybody who has the token."""
        info = msgspec.structs.replace(self.first.info, nats_url=self.first.info.join_url)
        trust = ("--tlsfirst", "--tlsca", str(self.first.folder / "nats" / "tls" / "ca.pem"))
        name = f"{info.cluster}_events"
        stored = json.loads(await nats(info, *trust, "stream", "info", name, "--json"))["state"]["messages"]
        shown = await nats(info, *trust, "sub", "--stream", name, "--all", "--raw", "--count", str(stored))
        return [json.loads(line) for line in shown.splitlines() if line.startswith("{")]


@pytest.fixture
async def scene(plug: Plug, tmp_path: Path) -> AsyncIterator[Scene]:
    """The model is loaded, in four shards."""
    with lan(4) as machines:
        nodes = list(await asyncio.gather(*(plug(machine, "--model", "none") for machine in machines)))
        async with AsyncExitStack() as stack:
            first = next(node for node in nodes if "127.0.0.1" in node.info.nats_url)
            bus = await stack.enter_async_context(outside(first))
            client = client_of(first).with_options(timeout=300)
            scene = Scene(machines, nodes, bus, await stack.enter_async_context(client))
            await scene.until_alive(EVERYBODY)
            folder = make_random_llama(tmp_path / "model", layers=4, context=1024)
            await load(bus, ModelSpec(id=BIG, source=str(folder), strategy="pipeline", min_nodes=4))
            yield scene
        await stop(scene.nodes)


def in_order(events: list[Event], *steps: Callable[[Event], bool]) -> None:
    """Each step is in the log, after the one before it."""
    left = iter(events)
    for number, step in enumerate(steps):
        assert any(step(event) for event in left), (number, [event["type"] for event in events])


def says(kind: str, **fields: Any) -> Callable[[Event], bool]:
    """An event of this kind; a field that is a string need only begin so."""

    def fits(event: Event) -> bool:
        return event["type"] == kind and all(
            str(event.get(name)).startswith(value) if isinstance(value, str) else event.get(name) == value
            for name, value in fields.items()
        )

    return fits


def cut(event: Event) -> bool:
    """A node says of another one that it cannot reach it."""
    return event["type"] == "LinksMeasured" and not all(link["reachable"] for link in event["links"])


async def pace(reading: Reading, count: int = 25) -> float:
    """Of the next so many tokens."""
    begin, began = len(reading.times), monotonic()
    async with asyncio.timeout(120):
        while len(reading.times) < begin + count:
            reading.came.clear()
            await reading.came.wait()
    return count / (monotonic() - began)


async def test_a_machine_is_cut_off_and_comes_back_and_dies_and_comes_back(scene: Scene, plug: Plug) -> None:
    """There is no place for four shards meanwhile: the stream waits, and then goes on as if nothing had been."""
    instance = await ready_again(scene.bus, 1, BIG)
    assert len(set(scene.ring(instance))) == 4
    (undisturbed,) = await scene.reading().read()
    away = scene.others[0]
    machine, name = scene.machine(away), away.info.name

    stream = await scene.begun()
    machine.cut()
    began = monotonic()
    await scene.until_alive(EVERYBODY - {name})
    print(f"cut off: lost after {monotonic() - began:.1f} s")
    machine.mend()
    began = monotonic()
    await scene.until_alive(EVERYBODY)
    print(f"mended: back after {monotonic() - began:.1f} s")
    assert await stream == [undisturbed]
    print(f"mended: the stream was whole after {monotonic() - began:.1f} s")

    stream = await scene.begun()
    machine.crash()
    assert not stream.done()
    await away.process.wait()
    await scene.until_alive(EVERYBODY - {name})
    began = monotonic()
    back = await plug(machine, "--model", "none")
    scene.nodes[scene.nodes.index(away)] = back
    assert back.node == away.node
    assert await stream == [undisturbed]
    print(f"crashed: the stream was whole {monotonic() - began:.1f} s after the machine was started again")
    gone, again = says("NodeLost", node=away.node), says("NodeJoined", node=away.node)
    retried, ready = says("InstanceRetried", instance=instance.id), says("RunnerReported", status="ready")
    unplaced = says("ModelUnplaced", model=BIG, reason="big has no place: ")
    await ready_again(scene.bus, 1, BIG)  # a rank that is ready takes work before the log says so
    log = await scene.log()
    in_order(log, says("InstancePlaced"), ready, gone, again, ready, gone, again, ready)
    in_order(log, gone, unplaced, again)
    in_order(
        log, ready, retried, ready
    )  # before or after the loss: a dead rank may be known sooner than its node's lease


async def test_a_starved_and_a_slow_link_cost_time_and_nothing_else(scene: Scene) -> None:
    (undisturbed,) = await scene.reading().read()
    one, other, _ = map(scene.machine, scene.others)

    reading = scene.reading()
    stream = asyncio.create_task(reading.read())
    one.starve("1mbit")
    print(f"starved: {await pace(reading):.1f} tokens/s")
    one.feed()
    with other.slow(0.05):
        print(f"50 ms: {await pace(reading):.1f} tokens/s")
    assert await stream == [undisturbed]
    assert not any(cut(event) for event in await scene.log()), "both are there"


async def test_a_link_between_two_ranks_is_cut_and_gone_around(scene: Scene) -> None:
    """Both reach the bus all the while, so that nobody else would notice."""
    instance = await ready_again(scene.bus, 1, BIG)
    (undisturbed,) = await scene.reading().read()
    one, other = scene.neighbours(instance)
    stream = await scene.begun()
    scene.machine(one).sever(scene.machine(other))
    began = monotonic()
    failed = await scene.bus.view.until(
        lambda state: (
            state.instances[instance.id].status == "failed"
            or state.instances[instance.id].attempt > instance.attempt
        ),
        timeout_s=60,
    )
    print(f"severed: noticed after {monotonic() - began:.1f} s", failed.instances[instance.id].reason)
    assert await stream == [undisturbed]
    print(f"severed: the stream was whole after {monotonic() - began:.1f} s")
    again = await ready_again(scene.bus, instance.attempt + 1, BIG)
    ring = scene.ring(again)
    apart = abs(ring.index(one.node) - ring.index(other.node))
    assert apart == 2, "of four in a ring, those are no neighbours that are two apart"
    scene.machine(one).join(scene.machine(other))
    began = monotonic()
    await scene.bus.view.until(
        lambda state: all(link.reachable for links in state.links.values() for link in links.links),
        timeout_s=60,
    )
    print(f"joined: measured after {monotonic() - began:.1f} s")
    in_order(
        await scene.log(),
        cut,
        says("RunnerReported", status="failed", reason="the link to rank "),
        says("InstanceRetried", instance=instance.id),
        says("RunnerReported", status="ready"),
        says("LinksMeasured"),
    )
