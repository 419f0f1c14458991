"""`actors status`: the cluster at a glance."""

import asyncio

from rich.text import Text

from actors.cli import screen
from actors.cli.cluster import bus_of
from actors.cli.models import print_models
from actors.cli.options import Cluster, DataDir, Json, Nats, Where
from actors.cli.rows import Status, status_of
from bus.address import public


def status(
    nats: Nats = None, cluster: Cluster = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """The cluster at a glance: who leads, which nodes are there, which models are served."""
    found = asyncio.run(_look(Where(nats, cluster, data_dir)))
    if as_json:
        screen.print_json(found)
    else:
        _show(found)


async def _look(where: Where) -> Status:
    async with bus_of(where) as bus:
        await bus.view.start()
        return status_of(bus.view.state, bus.cluster, public(bus.connection.url))


def _show(found: Status) -> None:
    alive = [node for node in found.nodes if node.alive]
    leader = f"{found.leader.name} (term {found.leader.term})" if found.leader else "none"
    names = ", ".join(node.name for node in alive)
    lost = f"  [dim]+ {len(found.nodes) - len(alive)} lost[/]" if len(alive) < len(found.nodes) else ""
    screen.out.print(f"[bold]{found.cluster}[/] on {found.nats_url}, event {found.seq}")
    screen.out.print(f"leader  {leader if _leads(found) else Text(leader + ', which is gone', style='red')}")
    screen.out.print(f"nodes   {names or 'none'}{lost}")
    for url in sorted({node.api_url for node in alive if node.api_url}):
        screen.out.print(f"API     {url}")
    screen.out.print()
    print_models(found.models)


def _leads(found: Status) -> bool:
    return found.leader is None or any(node.alive and node.id == found.leader.node for node in found.nodes)
