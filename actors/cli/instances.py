"""`actors instances`: the placed copies of models, whether they are here to stay, and what they are doing."""

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.hearing import hear
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import InstanceRow, instance_rows
from actors.cli.units import since
from schemas.ids import InstanceId
from schemas.node import Pulse

COLUMNS = ("instance", "model", "status", "node", "slots", "requests", "attempt", "ready for", "reason")


def instances(
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    load: Annotated[bool, typer.Option(help="Wait up to 1.3 s to hear how many requests each has.")] = True,
    as_json: Json = False,
) -> None:
    """The placed copies of models, and how they are."""
    rows = asyncio.run(_instances(Where(nats, cluster, data_dir), load))
    if as_json:
        screen.print_json(rows)
    else:
        screen.print_table(COLUMNS, [_cells(row) for row in rows], "No model has a place yet.")


async def _instances(where: Where, load: bool) -> list[InstanceRow]:
    async with bus_of(where) as bus:
        await bus.view.start()
        ready = [one.id for one in bus.view.state.instances.values() if one.status == "ready"]
        pulses = await hear(bus, bus.subjects.pulses, Pulse, _whose, ready) if load else {}
        return instance_rows(bus.view.state, pulses)


def _whose(pulse: Pulse) -> InstanceId | None:
    """Rank 0 tells what the instance does."""
    return None if pulse.rank else pulse.instance


def _cells(row: InstanceRow) -> tuple[str | Text, ...]:
    return (
        row.id,
        row.model,
        screen.coloured(row.status, "" if row.standing == "serves" else f", {row.standing}"),
        ", ".join(row.nodes),
        str(row.slots or ""),
        "" if row.requests is None else str(row.requests),
        str(row.attempt),
        since(row.ready_at),
        row.retired or row.reason,
    )
