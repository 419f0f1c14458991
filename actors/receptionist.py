"""Answers commands that are meant for one node's process."""

from collections.abc import Callable

from actors.actor import Actor, handles
from bus.bus import Bus
from schemas.commands import Done, NodeCommand, StopNode
from schemas.refused import Refused


class Receptionist(Actor):
    """Listens on `troupe.cmd.node.{id}`."""

    messages = NodeCommand

    def __init__(self, bus: Bus, stop: Callable[[], None]) -> None:
        super().__init__(bus, inbox=bus.subjects.node(bus.node))
        self._stop = stop

    @handles(StopNode)
    async def stop_node(self, order: StopNode) -> Done | Refused:
        if order.node != self.bus.node:
            return Refused("not_found", f"this is node {self.bus.node}, not {order.node}")
        self.logger.info("node.stop_asked")
        self._stop()
        return Done()
