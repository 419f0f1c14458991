"""The cluster that a command is about: found by its NATS server or by a node on this machine."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from actors.cli.failure import NO_CLUSTER, CommandFailed
from actors.cli.options import Where
from actors.machine.data_folder import holder
from actors.machine.node_info import NodeInfo, read_node_info
from actors.settings import Settings, load_settings
from bus.bus import Bus
from bus.clusters import NoCluster
from bus.errors import BusAway, UnusableServer
from bus.visit import visit


class Address(Struct, frozen=True, kw_only=True):
    """Where a cluster is; `local` is the node on this machine that led there."""

    url: str
    cluster: str
    local: NodeInfo | None = None
    stale: Path | None = None
    """The `node.json` of a node that is gone."""


def client_settings(where: Where) -> Settings:
    """The settings that a command runs with."""
    named = {"nats": where.nats, "cluster": where.cluster, "data_dir": where.data_dir}
    return load_settings({name: value for name, value in named.items() if value is not None})


def find_cluster(where: Where) -> Address:
    """`--nats`, else `--data-dir`, else the NATS server of the settings, else the default data folder's node."""
    settings = client_settings(where)
    if settings.bus_url and (where.nats or not where.data_dir):
        return Address(url=settings.bus_url, cluster=settings.cluster)
    file = settings.data_dir / "node.json"
    info = read_node_info(file)
    if info is None:
        raise CommandFailed(_nobody(settings.data_dir), NO_CLUSTER)
    stale = None if holder(settings.data_dir) else file
    return Address(url=info.nats_url, cluster=where.cluster or info.cluster, local=info, stale=stale)


@asynccontextmanager
async def bus_of(where: Where) -> AsyncGenerator[Bus]:
    """A connection to the cluster, while the block runs."""
    async with bus_at(find_cluster(where)) as bus:
        yield bus


@asynccontextmanager
async def bus_at(address: Address) -> AsyncGenerator[Bus]:
    """A connection to the cluster at `address`; `CommandFailed` when there is none."""
    try:
        bus = await visit(address.url, address.cluster, 0.5 if address.stale else 3.0)
    except (BusAway, UnusableServer, NoCluster, ValueError) as failure:
        raise CommandFailed(_absent(address, failure), NO_CLUSTER) from failure
    try:
        yield bus
    finally:
        await bus.close()


def _nobody(data_dir: Path) -> str:
    pid = holder(data_dir)
    if pid is not None:
        return f"the node of {data_dir} (pid {pid}) is not ready yet; try again in a moment"
    return (
        f"no node runs with the data folder {data_dir}; start one with `actors up`, "
        "or say which cluster you mean with --nats URL or --data-dir DIR"
    )


def _absent(address: Address, failure: Exception) -> str:
    if address.stale is not None and address.local is not None:
        return (
            f"the node that {address.stale} tells of (pid {address.local.pid}) is gone, and {failure}; "
            "start it again with `actors up`"
        )
    return str(failure)
