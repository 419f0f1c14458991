"""`actors models`: what the cluster is to serve, and how far it is."""

import asyncio
from collections.abc import Sequence

from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import FileRow, ModelRow, model_rows, stage_words
from actors.cli.units import in_bytes, in_thousands

COLUMNS = ("model", "status", "source", "parameters", "weights", "context", "files")


def models(
    nats: Nats = None, cluster: Cluster = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """The models that the cluster serves or is to serve."""
    rows = asyncio.run(_look(Where(nats, cluster, data_dir)))
    if as_json:
        screen.print_json(rows)
    else:
        print_models(rows)


async def _look(where: Where) -> list[ModelRow]:
    async with bus_of(where) as bus:
        await bus.view.start()
        return model_rows(bus.view.state)


def print_models(rows: Sequence[ModelRow]) -> None:
    screen.print_table(
        COLUMNS, [_cells(row) for row in rows], "No models yet; load one with `actors load guide`."
    )
    for row in rows:
        for file in row.files:
            if file.reason:
                screen.out.print(f"{row.id} on {file.name}: {file.reason}", markup=False, soft_wrap=True)


def _cells(row: ModelRow) -> tuple[str | Text, ...]:
    return (
        row.id,
        screen.coloured(row.stage, stage_words(row)),
        row.source + (" (simulated)" if row.engine == "simulated" else ""),
        in_thousands(row.parameters) if row.parameters else "",
        in_bytes(row.weights_bytes) if row.weights_bytes else "",
        str(row.context or ""),
        ", ".join(map(_file_words, row.files)),
    )


def _file_words(row: FileRow) -> str:
    """`hera`, `zeus 43 %`, `vm failed`."""
    if row.status == "complete":
        parts = "" if row.layers is None else f" layers {', '.join(f'{a}-{b - 1}' for a, b in row.layers)}"
        return row.name + parts
    if row.status == "downloading" and row.bytes_total:
        return f"{row.name} {100 * row.bytes_done // row.bytes_total} %"
    return f"{row.name} {row.status}"
