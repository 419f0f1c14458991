"""How a node comes to its bus: somebody else's, a neighbour's, or a server of its own."""

import asyncio
import socket
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from actors.machine.addresses import LOOPBACK, is_loopback, own_addresses
from actors.machine.data_folder import DataFolder
from actors.settings import Settings
from bus.address import joining
from bus.authority import new_token
from bus.carry_over import CarryOver
from bus.discovery import Neighbours, NoNetwork, Notice
from bus.errors import BusAway, UnusableServer
from bus.server import Server
from bus.server_file import Peers, Routes
from schemas.ids import NodeId

log = structlog.get_logger()

REACH_S = 5.0
QUORUM_S = 300.0
"""How long the first of several servers waits for the others."""


class TokenMissing(BusAway):
    """A cluster was found, and what it asks for is not known here."""


class BusAccess(Struct, frozen=True, kw_only=True):
    """The way to the bus, which is there now."""

    url: str
    join_url: str = ""
    """What other machines join with; empty where they cannot."""
    server: Server | None = None
    """This node's own, already started."""
    shared: bool = False
    """Whether nodes of other machines may be on it."""
    joins: bool = False
    """Whether somebody else begins the cluster, or has begun it."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the other nodes of this bus reach this one."""
        return own_addresses() if self.shared else (LOOPBACK,)


async def open_bus(settings: Settings, folder: DataFolder, stack: AsyncExitStack) -> BusAccess:
    """Find the bus, or start it; what was started ends with `stack`.

    Raises `BusAway`, `PortTaken` or `UnusableServer`, with the way out.
    """
    if settings.bus_url:
        shared = not is_loopback(urlsplit(settings.bus_url).hostname or "")
        return BusAccess(
            url=settings.bus_url, join_url=settings.join, shared=shared, joins=bool(settings.join)
        )
    if not settings.accepts_peers:
        return await _own(Server(folder.nats, host=settings.nats_host, port=settings.nats_port), stack)
    neighbours = await _neighbours(settings, folder, stack)
    if settings.discover and neighbours is not None and (found := await neighbours.find()) is not None:
        await neighbours.close()
        return await _neighbours_bus(found, folder.join_token(settings.join_token))
    peers = Peers(
        token=_token(settings, folder), addresses=own_addresses(), routes=_routes(settings, folder.node_id())
    )
    server = Server(folder.nats, settings.nats_host, settings.nats_port, peers)
    access = await (_one_of_three(server, settings, folder, stack) if peers.routes else _own(server, stack))
    if neighbours is not None and access.server is not None:
        await neighbours.say("bus", access.server.port)
    return access


def _token(settings: Settings, folder: DataFolder) -> str:
    token = folder.join_token(settings.join_token)
    if not token and settings.bus_peers:
        raise TokenMissing("servers that are one bus know one token: give each node the same --join-token")
    return token or folder.join_token(new_token())


def _routes(settings: Settings, node: NodeId) -> Routes | None:
    if not settings.bus_peers:
        return None
    return Routes(
        name=f"troupe-{node}", cluster=settings.cluster, port=settings.route_port, servers=settings.bus_peers
    )


async def _one_of_three(
    server: Server, settings: Settings, folder: DataFolder, stack: AsyncExitStack
) -> BusAccess:
    """The first that is named begins the cluster, by what a single server had stored where that is told."""
    place = await own_place(settings.bus_peers, settings.route_port)
    carry_over = CarryOver(folder.nats, settings.cluster)
    if settings.carry_over or carry_over.pending:
        if place:
            raise UnusableServer(
                "carry_over is for the first of bus_peers: name this machine first, everywhere"
            )
        await carry_over.prepare()
    access = await _own(server, stack)
    if carry_over.pending:
        await carry_over.run(access.url, QUORUM_S)
    return msgspec.structs.replace(access, joins=place > 0)


async def own_place(peers: tuple[str, ...], port: int) -> int:
    """Which of `peers` this machine is; raises `UnusableServer` when it is none of them."""
    for place, peer in enumerate(peers):
        host, _, its_port = peer.rpartition(":")
        if int(its_port) == port and await _is_here(host):
            return place
    raise UnusableServer(
        f"bus_peers ({', '.join(peers)}) does not name this machine, which has the addresses "
        f"{', '.join(own_addresses())} and the route_port {port}"
    )


async def _is_here(host: str) -> bool:
    """Whether one of a name's addresses is this machine's own: only such a one can be bound."""
    with suppress(OSError):
        for family, kind, protocol, _, address in await asyncio.get_running_loop().getaddrinfo(
            host, 0, type=socket.SOCK_DGRAM
        ):
            with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
    return False


async def _own(server: Server, stack: AsyncExitStack) -> BusAccess:
    await server.start()
    stack.push_async_callback(server.stop)
    return BusAccess(url=server.url, join_url=server.join_url, server=server, shared=bool(server.join_url))


async def _neighbours(settings: Settings, folder: DataFolder, stack: AsyncExitStack) -> Neighbours | None:
    """Who is there, and that this node is; None where nobody is to be told or mDNS does not work."""
    if settings.no_announce:
        return None
    mine = Notice(
        cluster=settings.cluster,
        node=folder.node_id(),
        stage="seeking" if settings.discover else "first",
        remembers=_remembers(folder.nats),
        several=bool(settings.bus_peers),
        addresses=own_addresses(),
    )
    neighbours = Neighbours(mine)
    stack.push_async_callback(neighbours.close)
    try:
        await neighbours.open()
    except NoNetwork as failure:
        if settings.discover:
            raise
        log.warning("discovery.unusable", reason=str(failure))
        return None
    return neighbours


def _remembers(nats: Path) -> bool:
    return (nats / "store" / "jetstream").exists()


async def _neighbours_bus(found: Notice, token: str) -> BusAccess:
    if not token:
        raise TokenMissing(
            f"cluster {found.cluster} is at {found.addresses[0]}:{found.port} (node {found.node}), and asks for its "
            "token: --join-token, or TROUPE_JOIN_TOKEN; it stands in join.token of that node's data folder"
        )
    host = await _reachable(found)
    log.info("discovery.found", cluster=found.cluster, other=found.node, host=host, port=found.port)
    url = f"tls://{token}@{host}:{found.port}"
    return BusAccess(url=joining(url), join_url=url, shared=True, joins=True)


async def _reachable(found: Notice) -> str:
    """The first of a node's addresses that leads there from here."""
    for address in found.addresses:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(REACH_S):
                _, writer = await asyncio.open_connection(address, found.port)
            writer.close()
            return address
    raise BusAway(
        f"node {found.node} announces the bus of {found.cluster} at {', '.join(found.addresses)}, port {found.port}, "
        "and nothing answers there: is a firewall in between?"
    )
