"""`actors forget`: a node that will not come back."""

import asyncio
from typing import Annotated

import typer

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.node_order import order_node
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from schemas.commands import ForgetNode
from schemas.ids import NodeId


def forget(
    node: Annotated[str, typer.Argument(metavar="NODE", help="A name, an id, or the beginning of one.")],
    nats: Nats = None,
    cluster: Cluster = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Drop a node that will not come back, and all that is known of it; refused while it is alive."""
    forgotten = asyncio.run(_forget(Where(nats, cluster, data_dir), node))
    if as_json:
        screen.print_json({"node": forgotten})
    else:
        screen.out.print(f"{node} is forgotten.", markup=False)


async def _forget(where: Where, name: str) -> NodeId:
    async with bus_of(where) as bus:
        return await order_node(bus, name, lambda node: ForgetNode(node=node))
