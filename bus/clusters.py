"""Which clusters a NATS server carries, by the names of their logs."""

from nats.js.errors import NotFoundError

from bus.address import public
from bus.connection import Connection
from bus.errors import BusAway, BusError
from bus.streams import StreamLimits, Streams
from schemas.nearest import did_you_mean

CARRIER = "carrier"
"""In the marker's metadata: whose it is."""


class NoCluster(BusError):
    """The NATS server carries no cluster of that name."""


def no_cluster(url: str, cluster: str, there: list[str]) -> NoCluster:
    return NoCluster(f"{public(url)} carries no cluster named {cluster!r}{did_you_mean(cluster, there)}")


async def clusters_on(connection: Connection) -> list[str]:
    """The clusters that a server carries; raises what nats-py raises."""
    ending = Streams("").events
    names = [info.config.name or "" for info in await connection.jetstream.streams_info()]
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]


async def limits_of(connection: Connection, cluster: str) -> StreamLimits:
    """How the cluster that is there keeps its streams, so that who joins makes none in another way.

    Raises `NoCluster` when only others are there: its name was mistyped; `BusAway` while there is none yet.
    """
    try:
        info = await connection.jetstream.stream_info(Streams(cluster).events)
    except NotFoundError:
        info = None
    if await is_being_carried(connection, cluster):  # asked last: without the marker what was seen is whole
        raise BusAway(f"what a single server had stored is being carried over to {public(connection.url)}")
    if info is not None:
        return StreamLimits(replicas=info.config.num_replicas or 1)
    there = await clusters_on(connection)
    if there:
        raise no_cluster(connection.url, cluster, there)
    raise BusAway(f"{public(connection.url)} carries no cluster yet: is its first node starting?")


async def is_being_carried(connection: Connection, cluster: str) -> bool:
    """Whether its streams are being carried over from a single server: the marker is the first to come, and the last to go."""
    return await carrier_of(connection, cluster) is not None


async def carrier_of(connection: Connection, cluster: str) -> str | None:
    """Which store's streams are being carried over, by the marker; None: none's."""
    try:
        marker = await connection.jetstream.stream_info(Streams(cluster).carrying)
    except NotFoundError:
        return None
    return (marker.config.metadata or {}).get(CARRIER, "")
