"""`actors nodes` and `actors instances`: the machines, and what they carry."""

import asyncio
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import InstanceRow, NodeRow, instance_rows, node_rows
from actors.cli.units import in_bytes, since
from bus.bus import Bus
from schemas.ids import NodeId
from schemas.node import Beat, NodeProfile
from schemas.unreadable import UNREADABLE

BEATS_S = 1.3
"""A node beats once a second; one that is not heard in this time has no load to show."""
NODE_COLUMNS = (
    "node",
    "status",
    "roles",
    "cores",
    "busy",
    "memory",
    "carries",
    "address",
    "slowest way",
    "API",
)
INSTANCE_COLUMNS = ("instance", "model", "status", "node", "slots", "attempt", "ready for", "reason")


def nodes(
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    load: Annotated[bool, typer.Option(help="Wait up to 1.3 s to hear each node's load.")] = True,
    as_json: Json = False,
) -> None:
    """The machines of the cluster: what they offer, and how busy they are."""
    rows = asyncio.run(_nodes(Where(nats, cluster, data_dir), load))
    if as_json:
        screen.print_json(rows)
    else:
        screen.print_table(NODE_COLUMNS, [_node_cells(row) for row in rows], "No node has ever joined.")


def instances(
    nats: Nats = None, cluster: Cluster = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """The placed copies of models, and how they are."""
    rows = asyncio.run(_instances(Where(nats, cluster, data_dir)))
    if as_json:
        screen.print_json(rows)
    else:
        screen.print_table(
            INSTANCE_COLUMNS, [_instance_cells(row) for row in rows], "No model has a place yet."
        )


async def _nodes(where: Where, load: bool) -> list[NodeRow]:
    async with bus_of(where) as bus:
        await bus.view.start()
        alive = {node.id for node in bus.view.state.nodes.values() if node.alive}
        beats = await _hear(bus, alive) if load and alive else {}
        return node_rows(bus.view.state, beats)


async def _instances(where: Where) -> list[InstanceRow]:
    async with bus_of(where) as bus:
        await bus.view.start()
        return instance_rows(bus.view.state)


async def _hear(bus: Bus, expected: set[NodeId]) -> dict[NodeId, Beat]:
    """One beat of each expected node, as far as they come in time."""
    heard: dict[NodeId, Beat] = {}
    complete = asyncio.Event()

    def hear(payload: bytes, _: str) -> None:
        try:
            beat = msgspec.json.decode(payload, type=Beat)
        except UNREADABLE:
            return  # a newer version's, or nobody's: there is no load to show
        heard[beat.node] = beat
        if expected <= heard.keys():
            complete.set()

    async with bus.listening(bus.subjects.beats, hear):
        try:
            await asyncio.wait_for(complete.wait(), BEATS_S)
        except TimeoutError:
            return heard
    return heard


def _node_cells(row: NodeRow) -> tuple[str | Text, ...]:
    beat = row.beat
    here = "drained" if row.draining else "alive"
    status = screen.coloured(here) if row.alive else screen.coloured("lost", f": {row.why}")
    heat = f" {beat.temperature_c:.0f} °C" if beat and beat.temperature_c is not None else ""
    used = f"{in_bytes(beat.memory_used_bytes)} of " if beat else ""
    return (
        Text(row.name + (" *" if row.leader else ""), style="bold" if row.leader else ""),
        status,
        " ".join(row.roles),
        _cores(row.profile),
        f"{beat.cpu_percent:.0f} %{heat}" if beat else "",
        used + in_bytes(row.profile.memory_bytes),
        ", ".join(row.models),
        row.addresses[0] if row.addresses else "",
        _slowest(row),
        row.api_url,
    )


def _cores(profile: NodeProfile) -> str:
    accelerator = (
        "" if profile.accelerator == "cpu" else f" + {profile.accelerator_name or profile.accelerator}"
    )
    return f"{profile.cores}{accelerator}"


def _slowest(row: NodeRow) -> str:
    """The way to another node that holds up the most."""
    if not row.links:
        return ""
    slowest = min(row.links, key=lambda link: link.bandwidth_bytes_s)
    return (
        f"{in_bytes(slowest.bandwidth_bytes_s)}/s, {max(link.latency_s for link in row.links) * 1e3:.2g} ms"
    )


def _instance_cells(row: InstanceRow) -> tuple[str | Text, ...]:
    return (
        row.id,
        row.model,
        screen.coloured(row.status),
        ", ".join(row.nodes),
        str(row.slots or ""),
        str(row.attempt),
        since(row.ready_at),
        row.reason,
    )
