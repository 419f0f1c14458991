"""`actors drain`: a node takes nothing new, and what it carries goes elsewhere."""

import asyncio
from typing import Annotated

import typer

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.failure import CommandFailed
from actors.cli.node_order import order_node
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from bus.bus import Bus
from schemas.commands import DrainNode
from schemas.ids import NodeId
from schemas.presence import models_on
from schemas.state import State


def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A name, an id, or the beginning of one.")],
    undo: Annotated[bool, typer.Option("--undo", help="Use the node again.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it carries nothing.")] = True,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Wait no longer.")] = 600.0,
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Have a node carry nothing: its models are loaded elsewhere first, and no stream breaks."""
    drained = asyncio.run(_drain(Where(nats, cluster, data_dir), node, undo, timeout if wait else None))
    if as_json:
        screen.print_json({"node": drained, "draining": not undo})
    else:
        said = "is used again" if undo else "carries nothing" if wait else "is being drained"
        screen.out.print(f"{node} {said}.")


async def _drain(where: Where, name: str, undo: bool, timeout_s: float | None) -> NodeId:
    async with bus_of(where) as bus:
        node = await order_node(bus, name, lambda node: DrainNode(node=node, undo=undo))
        if timeout_s is not None and not undo:
            await _until_empty(bus, node, timeout_s)
        return node


async def _until_empty(bus: Bus, node: NodeId, timeout_s: float) -> None:
    try:
        await bus.view.until(lambda state: not _carried(state, node), timeout_s)
    except TimeoutError as late:
        carried = _carried(bus.view.state, node)
        raise CommandFailed(f"after {timeout_s:g} s the node still carries {', '.join(carried)}") from late


def _carried(state: State, node: NodeId) -> list[str]:
    """The models that are on a node, with the reason why they are there still."""
    names = models_on(state, node)
    unplaced = {name: state.models[name].unplaced for name in names if name in state.models}
    return [f"{name} ({unplaced[name]})" if unplaced.get(name) else name for name in names]
