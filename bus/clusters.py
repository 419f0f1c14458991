"""Which clusters a NATS server carries, by the names of their logs."""

from bus.address import public
from bus.connection import Connection
from bus.errors import BusError
from bus.streams import Streams
from schemas.nearest import did_you_mean


class NoCluster(BusError):
    """The NATS server carries no cluster of that name."""


def no_cluster(url: str, cluster: str, there: list[str]) -> NoCluster:
    return NoCluster(f"{public(url)} carries no cluster named {cluster!r}{did_you_mean(cluster, there)}")


async def clusters_on(connection: Connection) -> list[str]:
    """The clusters that a server carries; raises what nats-py raises."""
    ending = Streams("").events
    names = [info.config.name or "" for info in await connection.jetstream.streams_info()]
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


async def require_cluster(connection: Connection, cluster: str) -> None:
    """Raises `NoCluster` when others are there, but not this one: its name was mistyped. An empty bus may become it."""
    there = await clusters_on(connection)
    if there and cluster not in there:
        raise no_cluster(connection.url, cluster, there)
