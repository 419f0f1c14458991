"""The way to the next rank, kept under watch by the kernels of both machines: a cut link is noticed though nobody answers.

Ranks that wait for numbers over a cut link wait for ever, and burn a core, so that nothing tells them from ranks at work. Each rank holds
a connection to the next one beside theirs, over the same way. Nothing is ever said on it; the kernels ask each other whether it
still leads there. So a process that is starved, frozen or dead is no cut link.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import structlog

from actors.runner.group_life import GroupBroken
from bus.bus import Bus
from bus.errors import BusError
from schemas.commands import LinkLost, LinkNoted
from schemas.group import Present
from schemas.ids import NodeId

log = structlog.get_logger()

REACH_S = 5.0
"""A connection that takes longer is none; seconds."""
PROBE_S, PROBES = 1, 3
"""Each second the kernel asks; so many questions in a row without an answer are a cut link."""


@asynccontextmanager
async def waiting_for_line(host: str) -> AsyncGenerator[int]:
    """The port where the rank before this one comes to; what it might say is not read."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def line_to(bus: Bus, to: Present, node: NodeId) -> AsyncGenerator[None]:
    """While the block runs, the link to the next rank is watched; raises GroupBroken when it is cut."""
    way = await _reached(bus, to, node) if to.line else None
    if way is None:
        yield
        return
    reader, writer = way
    _keep_asking(writer.get_extra_info("socket"))
    async with asyncio.TaskGroup() as beside:
        watching = beside.create_task(_watch(reader, bus, to, node))
        try:
            yield
        finally:
            watching.cancel()
            writer.close()


async def _reached(
    bus: Bus, to: Present, node: NodeId
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """None: the way is there and the next rank's process is gone, which is for its worker to tell."""
    try:
        async with asyncio.timeout(REACH_S):
            return await asyncio.open_connection(to.host, to.line)
    except ConnectionRefusedError:
        return None
    except OSError as error:
        raise await _cut(bus, to, node, error) from error


async def _watch(reader: asyncio.StreamReader, bus: Bus, to: Present, node: NodeId) -> None:
    """Until the next rank's process ends, which is for its worker to tell."""
    try:
        await reader.read()
    except ConnectionError:
        return
    except OSError as error:
        raise await _cut(bus, to, node, error) from error


async def _cut(bus: Bus, to: Present, node: NodeId, error: OSError) -> GroupBroken:
    """The reason to leave; placement hears of the link first, lest it choose the same ranks again."""
    log.warning("link.cut", to=node, address=to.host, reason=str(error))
    with suppress(BusError):
        await bus.ask(bus.subjects.link(bus.node), LinkLost(to=node), LinkNoted)
    return GroupBroken(f"the link to rank {to.rank} (node {node} at {to.host}) is cut")


def _keep_asking(connection: socket.socket) -> None:
    idle = socket.TCP_KEEPALIVE if sys.platform == "darwin" else socket.TCP_KEEPIDLE
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((idle, PROBE_S), (socket.TCP_KEEPINTVL, PROBE_S), (socket.TCP_KEEPCNT, PROBES)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
