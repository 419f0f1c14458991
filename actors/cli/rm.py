"""`actors rm`: delete a model's files from nodes."""

import asyncio
from typing import Annotated

import typer

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.failure import CommandFailed
from actors.cli.files_order import ordered, source_of
from actors.cli.node_name import node_named
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import file_rows, name_of
from schemas.commands import RemoveModel


def rm(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As `actors models` calls it.")],
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="Only from there; may be repeated.")
    ] = None,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete a model's files from all nodes that have them; refused while one of them carries the model."""
    names = asyncio.run(_remove(Where(nats, cluster, data_dir), model, node or []))
    if as_json:
        screen.print_json({"model": model, "nodes": names})
    else:
        screen.out.print(f"{model} is gone from {', '.join(names)}.", markup=False)


async def _remove(where: Where, text: str, names: list[str]) -> list[str]:
    async with bus_of(where) as bus:
        await bus.view.start()
        state = bus.view.state
        model, source = source_of(state, text)
        having = {row.node: row.source for row in file_rows(state, model) if state.nodes[row.node].alive}
        nodes = [node_named(state, name) for name in names] or list(having)
        if not nodes:
            raise CommandFailed(f"no node that is there has files of {text}")
        for node in nodes:  # under one name, nodes may keep different versions; a source is that one
            kept = having.get(node, source) if text == model else source
            await ordered(bus, node, RemoveModel(model=model, source=kept))
        return [name_of(state, node) for node in nodes]
