"""A look at a cluster from outside: connects to one that is there, and makes nothing."""

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from bus.bus import Bus
from bus.connection import Connection, public
from bus.errors import BusError
from bus.streams import Streams
from bus.subjects import Subjects
from schemas.ids import NodeId
from schemas.nearest import did_you_mean

VISITOR = NodeId("visitor")


class NoCluster(BusError):
    """The NATS server carries no cluster of that name."""


async def visit(url: str, cluster: str, deadline_s: float = 3.0) -> Bus:
    """The bus of a running cluster; close it afterwards.

    Raises `BusAway` when nothing answers, `UnusableServer`, `NoCluster`, or ValueError for an impossible name.
    """
    Subjects(cluster)
    connection = await Connection.open(url, "visitor", deadline_s)
    try:
        await connection.jetstream.stream_info(Streams(cluster).events)
    except NotFoundError as missing:
        there = await _clusters(connection)
        await connection.close()
        raise NoCluster(
            f"{public(url)} carries no cluster named {cluster!r}{did_you_mean(cluster, there)}"
        ) from missing
    except (NatsError, TimeoutError) as failure:
        await connection.close()
        raise BusError(f"{public(url)} does not say whether it carries {cluster!r}: {failure}") from failure
    return Bus(connection, cluster, VISITOR, lease_ttl_s=3.0)


async def _clusters(connection: Connection) -> list[str]:
    """The clusters that a server carries, by the names of their logs."""
    ending = Streams("").events
    names = [info.config.name or "" for info in await connection.jetstream.streams_info()]
    return [name.removesuffix(ending) for name in names if name.endswith(ending)]
