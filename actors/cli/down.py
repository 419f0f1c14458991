"""`actors down`: stop the node of this machine, or all of the cluster."""

import asyncio
import fcntl
import os
import signal
import threading
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated

import typer

from actors.cli import screen
from actors.cli.cluster import Address, bus_at, bus_of, client_settings, find_cluster
from actors.cli.failure import NO_CLUSTER, USAGE, CommandFailed
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.machine.data_folder import holder
from actors.machine.node_info import read_node_info
from bus.bus import Bus
from bus.errors import BusAway, BusError, NoAnswer, NobodyThere
from bus.lease import node_lease
from bus.server import Server
from schemas.commands import Answer, StopNode
from schemas.ids import NodeId

GONE_S = 30.0
"""A node cuts its running answers after a few seconds; this is long past that."""


def down(
    all_nodes: Annotated[bool, typer.Option("--all", help="Stop every node of the cluster.")] = False,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Stop the node of this machine's data folder cleanly, and wait until it is gone."""
    where = Where(nats, cluster, data_dir)
    stopped = _stop_all(where) if all_nodes else _stop_local(where)
    if as_json:
        screen.print_json({"stopped": stopped})
    else:
        screen.out.print(f"Stopped {', '.join(stopped)}." if stopped else "No node was running.")


def _stop_all(where: Where) -> list[str]:
    """First the nodes elsewhere, then the one that led here, which may run the bus."""
    try:
        others = asyncio.run(_stop_others(where))
    except CommandFailed as failure:
        if failure.exit_code != NO_CLUSTER or where.nats:
            raise
        others = []  # there is no bus, so that at most the node of this data folder is left
    return others + (_stop_local(where) if where.data_dir or not where.nats else [])


async def _stop_others(where: Where) -> list[str]:
    address = find_cluster(where)
    local = address.local.node_id if address.local else None
    async with bus_at(address) as bus:
        await bus.view.start()
        alive = {
            node.id: node.name for node in bus.view.state.nodes.values() if node.alive and node.id != local
        }
        for node in alive:
            await _order(bus, node)
        left = set(alive)
        try:
            async with asyncio.timeout(GONE_S), aclosing(bus.leases.holders()) as holders:
                async for held in holders:
                    left = {node for node in left if node_lease(node) in held}
                    if not left:
                        break
        except TimeoutError as error:
            names = ", ".join(alive[node] for node in left)
            raise CommandFailed(f"{names} did not stop within {GONE_S:g} s") from error
    return list(alive.values())


async def _order(bus: Bus, node: NodeId) -> None:
    """Tell a node to stop; one that is gone already has nobody to hear it, and its lease will tell."""
    with suppress(NobodyThere, NoAnswer, BusAway):
        await bus.ask(bus.subjects.node(node), StopNode(node=node), Answer)


def _stop_local(where: Where) -> list[str]:
    if where.nats and not where.data_dir:
        raise CommandFailed("say which node: --data-dir DIR for one on this machine, or --all for every node")
    data_dir = client_settings(where).data_dir
    pid = holder(data_dir)
    if pid is None:
        return _tidy_up(where, data_dir)
    if not _asked_over_the_bus(data_dir):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if not _gone(data_dir):
        raise CommandFailed(
            f"the node (pid {pid}) is still there after {GONE_S:g} s; `kill -9 {pid}` ends it hard"
        )
    return [f"the node of {data_dir}"]


def _tidy_up(where: Where, data_dir: Path) -> list[str]:
    """What a killed node leaves: `node.json`, and its NATS server, which others may go on using."""
    if data_dir.is_file():
        raise CommandFailed(f"the data folder {data_dir} is a file", USAGE)
    left = read_node_info(data_dir / "node.json")
    (data_dir / "node.json").unlink(missing_ok=True)
    server = Server(data_dir / "nats")
    if not server.adopt():
        return []
    cluster = where.cluster or (left.cluster if left else client_settings(where).cluster)
    others = asyncio.run(_others_on(server.url, cluster, left.node_id if left else None))
    if others:
        raise CommandFailed(
            f"the node of {data_dir} was killed; its NATS server (pid {server.pid}) is left alone, because "
            f"{others} other node(s) use it: `actors down --all` stops them, or start this one again"
        )
    asyncio.run(server.stop())
    return [f"the NATS server of {data_dir}, which a killed node had left"]


async def _others_on(url: str, cluster: str, but: NodeId | None) -> int:
    """How many other nodes hold a lease on that server."""
    try:
        async with (
            bus_at(Address(url=url, cluster=cluster)) as bus,
            aclosing(bus.leases.holders()) as holders,
        ):
            async for held in holders:
                return len({holder.node for holder in held.values()} - {but})
    except CommandFailed:
        return 0  # no cluster there, or nothing that answers
    return 0


def _asked_over_the_bus(data_dir: Path) -> bool:
    """Whether the node itself has answered that it stops."""
    where = Where(data_dir=data_dir)
    try:
        node = find_cluster(where).local
        return node is not None and asyncio.run(_ask(where, node.node_id))
    except (CommandFailed, BusError):
        return False


async def _ask(where: Where, node: NodeId) -> bool:
    async with bus_of(where) as bus:
        await bus.ask(bus.subjects.node(node), StopNode(node=node), Answer)
    return True


def _gone(data_dir: Path) -> bool:
    """Wait until the holder of the folder has let go of it."""
    waiting = threading.Thread(target=_wait_for_lock, args=(data_dir,), daemon=True)
    waiting.start()
    waiting.join(GONE_S)
    return not waiting.is_alive()


def _wait_for_lock(data_dir: Path) -> None:
    with (data_dir / "node.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
