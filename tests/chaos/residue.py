"""What a cluster holds on to: processes, files, memory, connections, subscriptions, consumers."""

from contextlib import suppress

import msgspec
import psutil
from msgspec import Struct

from bus.bus import Bus
from bus.streams import StreamLimits, configurations
from tests.chaos.cluster import Cluster, processes_with
from tests.nodes import is_spare

CONNECTIONS = "$SYS.REQ.ACCOUNT.PING.CONNZ"


class Residue(Struct, frozen=True):
    """Counts at one moment; files, threads, memory and subscriptions are those of node `c`, which is never killed."""

    runners: int
    servers: int
    files: int
    threads: int
    resident_mib: float
    connections: int
    subscriptions: int
    consumers: dict[str, int]


class _Connection(Struct):
    name: str
    subscriptions: int = 0


class _Connections(Struct):
    connections: list[_Connection]


class _Reply(Struct):
    data: _Connections


async def residue(cluster: Cluster, bus: Bus) -> Residue:
    node = psutil.Process(cluster.c.pid)
    reply = await bus.connection.request(CONNECTIONS, b"", 5.0)
    connections = msgspec.json.decode(reply.data, type=_Reply).data.connections
    return Residue(
        runners=len(_all_runners(cluster)),
        servers=len(processes_with(str(cluster.a.folder / "nats" / "nats.conf"))),
        files=node.num_fds(),
        threads=node.num_threads(),
        resident_mib=round(node.memory_info().rss / 2**20, 1),
        connections=len(connections),
        subscriptions=sum(
            each.subscriptions for each in connections if each.name == f"node-{cluster.c.name}"
        ),
        consumers=await consumers(bus),
    )


async def consumers(bus: Bus) -> dict[str, int]:
    """How many consumers each stream has."""
    names = [str(each.name) for each in configurations(bus.cluster, StreamLimits())]
    infos = [await bus.connection.jetstream.stream_info(name) for name in names]
    return {name: info.state.consumer_count for name, info in zip(names, infos, strict=True)}


def _all_runners(cluster: Cluster) -> list[psutil.Process]:
    """Orphans too: whatever runs `actors.runner` from the folder of one of this cluster's nodes, and has a job."""
    folders = {str(seat.folder) for seat in cluster.seats}
    mine: list[psutil.Process] = []
    for process in processes_with("actors.runner"):
        with suppress(psutil.Error):
            if process.cwd() in folders and not is_spare(process):
                mine.append(process)
    return mine
