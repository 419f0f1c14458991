"""Orders to the leader about one node, by the name that somebody gave it."""

from collections.abc import Callable

from actors.cli.failure import CommandFailed
from actors.cli.node_name import node_named
from bus.bus import Bus
from bus.commands import command
from schemas.commands import DrainNode, ForgetNode
from schemas.ids import NodeId
from schemas.refused import Refused


async def order_node(bus: Bus, name: str, order: Callable[[NodeId], DrainNode | ForgetNode]) -> NodeId:
    """The node that was meant; raises CommandFailed when there is none, or the leader refuses."""
    await bus.view.start()
    node = node_named(bus.view.state, name)
    answer = await command(bus, order(node))
    if isinstance(answer, Refused):
        raise CommandFailed(answer.reason)
    return node
