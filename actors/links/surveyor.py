"""Measures the ways from its node to the others, and lets them measure theirs."""

import asyncio
import random
from collections.abc import Collection
from contextlib import suppress
from secrets import token_hex

from actors.actor import Actor, forever, handles
from actors.links.yardstick import DEADLINE_S, Measured, be_measured, measure
from actors.machine.addresses import EVERYWHERE
from bus.bus import Bus
from bus.errors import BusError
from schemas.commands import Done, LinkAnswer, LinkLost, LinkOpen, LinkOrder, OpenLink
from schemas.events import LinksMeasured
from schemas.ids import NodeId
from schemas.link import Link
from schemas.refused import Refused
from schemas.state import State

REFRESH_S = 60.0
"""One link of a node is measured again in this time; the oldest first."""
RETRY_S = 5.0
"""Those that are cut are measured again in this time."""
PAUSE_S = 2.0
"""A node that has just come has other things to do first."""
CHANGED = 0.2
"""What differs less than this part from what is known is not worth an event."""
MOST_LINKS = 32
"""Nodes that one node measures its way to; in a larger cluster each has others, so that every node is known to some."""


class Surveyor(Actor):
    """Listens on `troupe.cmd.link.{node}`; one link at a time, so that no two measurements of a node disturb each other."""

    messages = LinkOrder

    def __init__(self, bus: Bus, addresses: tuple[str, ...]) -> None:
        super().__init__(bus, inbox=bus.subjects.link(bus.node))
        self._addresses = addresses
        self._known: dict[NodeId, Link] = {}
        self._at: dict[NodeId, float] = {}

    @handles(OpenLink)
    async def open(self, order: OpenLink) -> LinkOpen | Refused:
        """A port of its own for each who asks, for seconds."""
        self.logger.debug("link.opened", by=order.by)
        secret = token_hex(16)
        alone = len(self._addresses) == 1
        server = await asyncio.start_server(
            lambda reader, writer: be_measured(reader, writer, secret),
            self._addresses[0] if alone else EVERYWHERE,
            0,
        )
        asyncio.get_running_loop().call_later(DEADLINE_S, server.close)
        return LinkOpen(addresses=self._addresses, port=server.sockets[0].getsockname()[1], secret=secret)

    @handles(LinkLost)
    async def lose(self, order: LinkLost) -> Done:
        """Believed at once; the loop beside this one soon measures whether it is so."""
        self.logger.warning("link.lost", to=order.to)
        await self._record([self._cut(order.to)])
        return Done()

    @forever
    async def survey(self) -> None:
        while True:
            others = self._others(self.bus.view.state)
            self._known = {node: link for node, link in self._known.items() if node in others}
            self._at = {node: at for node, at in self._at.items() if node in others}
            due = [node for node in others if node not in self._at] or await self._oldest(others)
            if due:
                await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE_S)
                await self._record([link for node in due if (link := await self._measured(node)) is not None])

    async def _oldest(self, others: list[NodeId]) -> list[NodeId]:
        """Those that are cut, or the one that was measured longest ago, after a while; none when somebody comes or goes
        before, or another link is cut."""
        cut = self._unreachable()
        try:
            await self.bus.view.until(
                lambda state: self._others(state) != others or self._unreachable() != cut,
                timeout_s=RETRY_S if cut else REFRESH_S,
            )
        except TimeoutError:
            return cut or sorted(others, key=self._at.__getitem__)[:1]
        return []

    def _others(self, state: State) -> list[NodeId]:
        """A link that a rank has found to be cut is measured too, wherever it leads."""
        return peers(state, self.bus.node, self._unreachable())

    def _unreachable(self) -> list[NodeId]:
        return [node for node, link in self._known.items() if not link.reachable]

    async def _measured(self, node: NodeId) -> Link | None:
        """None where the other side is of an older version, or nobody is there."""
        self._at[node] = asyncio.get_running_loop().time()
        try:
            ask = OpenLink(by=self.bus.node)
            answer = await self.bus.ask(self.bus.subjects.link(node), ask, LinkAnswer)
        except BusError:
            return None
        if isinstance(answer, Refused):
            return None
        for address in answer.addresses:
            with suppress(OSError, TimeoutError):
                return self._link(node, address, await measure(address, answer.port, answer.secret))
        self.logger.warning("link.unreachable", to=node, addresses=answer.addresses)
        return self._cut(node)

    def _link(self, node: NodeId, address: str, measured: Measured) -> Link:
        return Link(
            from_node=self.bus.node,
            to_node=node,
            latency_s=measured.latency_s,
            bandwidth_bytes_s=measured.bandwidth_bytes_s,
            address=address,
        )

    def _cut(self, node: NodeId) -> Link:
        return Link(
            from_node=self.bus.node, to_node=node, latency_s=0.0, bandwidth_bytes_s=0.0, reachable=False
        )

    async def _record(self, new: list[Link]) -> None:
        worth = [link for link in new if differs(self._known.get(link.to_node), link)]
        if not worth:
            return
        self._known.update({link.to_node: link for link in worth})
        await self.bus.log.record(
            LinksMeasured(node=self.bus.node, links=tuple(self._known[node] for node in sorted(self._known)))
        )


def peers(state: State, me: NodeId, too: Collection[NodeId] = ()) -> list[NodeId]:
    """Whom a node measures: the workers that are there; of many, those that come after it in the order of names, and those
    of `too`."""
    names = sorted(node.id for node in state.nodes.values() if node.alive and "worker" in node.roles)
    after = [name for name in names if name > me] + [name for name in names if name < me]
    return after[:MOST_LINKS] + [name for name in after[MOST_LINKS:] if name in too]


def differs(old: Link | None, new: Link) -> bool:
    """Whether placement would care."""
    if old is None or old.address != new.address:
        return True
    pairs = ((old.latency_s, new.latency_s), (old.bandwidth_bytes_s, new.bandwidth_bytes_s))
    return any(abs(before - after) > CHANGED * max(before, after) for before, after in pairs)
