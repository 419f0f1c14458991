"""A program for benches: many nodes in one process, which do on the bus what real ones do, with the product's own actors.

Simulated is only what costs a machine of its own: runners, files, the measuring of links. Each node has a connection, a
lease, beats, a candidate for the leader's place; some of them follow the log for their neighbours too (`Job.views`).
"""

import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from actors.election import Election
from actors.journal import keep_journal
from actors.links.surveyor import peers
from actors.machine.beats import send_beats
from actors.master.master import Master
from actors.membership import Membership, require_no_twin
from actors.receptionist import Receptionist
from bus.bus import Bus
from bus.lease import Holder
from schemas.events import DownloadReported, LinksMeasured, NodeJoined, RunnerReported
from schemas.ids import NodeId
from schemas.instance import Instance, RunnerStatus, Shard
from schemas.link import Link
from schemas.node import Beat, NodeProfile
from schemas.split import SPLITS
from schemas.state import State
from tests.bench.table import percentile

GIB = 2**30
LIFE: tuple[RunnerStatus, ...] = ("starting", "loading", "warming", "ready")
AT_ONCE = 50
"""So many nodes of a process connect at the same time."""
TICK_S = 0.02


class Job(Struct, frozen=True, kw_only=True):
    """Which nodes this process is."""

    url: str
    first: int
    count: int
    views: int


class Lag(Struct, frozen=True, kw_only=True):
    """How late this process did what was due, since it was asked last; seconds."""

    p50_s: float
    p99_s: float
    most_s: float


def name_of(number: int) -> NodeId:
    return NodeId(f"sim{number:04}")


def joining(node: NodeId) -> NodeJoined:
    profile = NodeProfile(
        hostname=node,
        platform="linux-x86_64",
        cores=16,
        memory_bytes=64 * GIB,
        flop_s=1e12,
        read_bytes_s=5e10,
        memory_bandwidth_bytes_s=5e10,
    )
    return NodeJoined(
        node=node,
        incarnation="one",
        name=node,
        profile=profile,
        roles=("master", "worker"),
        version="0.1.0",
        addresses=("10.0.0.1",),
        splits=SPLITS,
    )


def beat_of(bus: Bus) -> Beat:
    return Beat(node=bus.node, cpu_percent=10.0, memory_used_bytes=GIB, memory_free_bytes=63 * GIB)


class Swarm:
    """The nodes of one process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._buses: dict[NodeId, Bus] = {}
        self._late: list[float] = []
        self._begun: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Says a line when all are members, and one about its lag for each line that it reads."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_lag())
            await self._join_all(tasks)
            say({"members": len(self._buses), "at": time.time()})
            tasks.create_task(self._work(tasks))
            while await loop.run_in_executor(None, sys.stdin.readline):
                say(self._lag())
            raise SystemExit

    async def _join_all(self, tasks: asyncio.TaskGroup) -> None:
        numbers = range(self._job.first, self._job.first + self._job.count)
        own, others = numbers[: self._job.views], numbers[self._job.views :]
        gate = asyncio.Semaphore(AT_ONCE)
        for those in (own, others):
            await asyncio.gather(*(self._join(number, tasks, gate) for number in those))
        names = list(self._buses)
        view = self._buses[names[0]].view
        await view.until(lambda state: all(node in state.nodes for node in names), timeout_s=120)

    async def _join(self, number: int, tasks: asyncio.TaskGroup, gate: asyncio.Semaphore) -> None:
        node = name_of(number)
        async with gate:
            bus = await Bus.connect(self._job.url, "troupe", node, node, deadline_s=60)
            neighbour = self._buses.get(name_of(self._job.first + number % self._job.views))
            if neighbour is None:
                await bus.view.start()
            else:
                bus.view = neighbour.view
            self._buses[node] = bus
            holder = Holder(node=node, incarnation="one")
            await require_no_twin(bus, holder)
        tasks.create_task(Membership(bus, joining(node)).run())
        tasks.create_task(Receptionist(bus, lambda: None).run())
        tasks.create_task(Election(bus, holder, lambda lease: Master(bus, lease).run()).run())
        tasks.create_task(send_beats(bus, node, lambda: beat_of(bus)))
        tasks.create_task(self._measure(bus))

    async def _measure(self, bus: Bus) -> None:
        """What a surveyor says when it has come to know its neighbours."""
        state = await bus.view.until(lambda state: bus.node in state.nodes, timeout_s=120)
        await asyncio.sleep(5)
        links = tuple(
            Link(from_node=bus.node, to_node=other, latency_s=0.0003, bandwidth_bytes_s=1e8)
            for other in peers(bus.view.state or state, bus.node)
        )
        await bus.log.record(LinksMeasured(node=bus.node, links=links))

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        async for state in next(iter(self._buses.values())).view.states():
            for instance, shards in self._placed(state):
                for shard in shards:
                    tasks.create_task(self._carry(instance, shard))

    def _placed(self, state: State) -> Sequence[tuple[Instance, list[Shard]]]:
        found: list[tuple[Instance, list[Shard]]] = []
        for instance in state.instances.values():
            if instance.status == "placed" and (instance.id, instance.attempt) not in self._begun:
                self._begun.add((instance.id, instance.attempt))
                found.append((instance, [shard for shard in instance.shards if shard.node in self._buses]))
        return found

    async def _carry(self, instance: Instance, shard: Shard) -> None:
        """The facts of a shard's way to being ready."""
        record, model = self._buses[shard.node].log.record, instance.spec
        await record(
            DownloadReported(
                node=shard.node,
                model=model.id,
                source=model.source,
                status="complete",
                layers=None if shard.layers is None else (shard.layers,),
            )
        )
        for status in LIFE:
            await record(
                RunnerReported(
                    instance=instance.id,
                    node=shard.node,
                    attempt=instance.attempt,
                    rank=shard.rank,
                    status=status,
                    slots=4,
                )
            )

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late.append(loop.time() - due)

    def _lag(self) -> Lag:
        late, self._late = self._late, []
        return Lag(p50_s=percentile(late, 0.5), p99_s=percentile(late, 0.99), most_s=max(late))


def say(what: object) -> None:
    print(msgspec.json.encode(what).decode(), flush=True)


if __name__ == "__main__":
    keep_journal("warning", "console")
    asyncio.run(Swarm(msgspec.json.decode(sys.stdin.readline(), type=Job)).run())
