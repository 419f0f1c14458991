"""`actors nodes`: the machines, and how busy they are."""

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.hearing import hear
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import NodeRow, node_rows
from actors.cli.units import in_bytes
from schemas.node import Beat, NodeProfile

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


async def _nodes(where: Where, load: bool) -> list[NodeRow]:
    async with bus_of(where) as bus:
        await bus.view.start()
        alive = {node.id for node in bus.view.state.nodes.values() if node.alive}
        beats = await hear(bus, bus.subjects.beats, Beat, lambda beat: beat.node, alive) if load else {}
        return node_rows(bus.view.state, beats)


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
