"""A look at a cluster from outside: connects to one that is there, and makes nothing."""

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from bus.address import public
from bus.bus import Bus
from bus.clusters import clusters_on, no_cluster
from bus.connection import Connection
from bus.errors import BusError
from bus.streams import Streams
from bus.subjects import Subjects
from schemas.ids import NodeId

VISITOR = NodeId("visitor")


async def visit(url: str, cluster: str, deadline_s: float = 3.0) -> Bus:
    """The bus of a running cluster; close it afterwards.

    Raises `BusAway` when nothing answers, `UnusableServer`, `NoCluster`, or ValueError for an impossible name.
    """
    Subjects(cluster)
    connection = await Connection.open(url, "visitor", deadline_s)
    try:
        await connection.jetstream.stream_info(Streams(cluster).events)
    except NotFoundError as missing:
        there = await clusters_on(connection)
        await connection.close()
        raise no_cluster(url, cluster, there) from missing
    except (NatsError, TimeoutError) as failure:
        await connection.close()
        connection.require_permitted()
        raise BusError(f"{public(url)} does not say whether it carries {cluster!r}: {failure}") from failure
    return Bus(connection, cluster, VISITOR, lease_ttl_s=3.0)
