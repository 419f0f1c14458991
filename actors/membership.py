"""A node's own life in the cluster: its lease, its joining, its leaving."""

import asyncio
from contextlib import suppress

from actors.actor import Actor, forever
from bus.bus import Bus
from bus.errors import BusAway, BusError, LeaseLost
from bus.lease import Holder, Lease, node_lease
from schemas.events import NodeJoined, NodeLeft
from schemas.ids import NodeId


class TwinNode(Exception):
    """Two processes have the same node id."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(
            f"another process is node {node} too: was a data folder copied? "
            "Give each node a data folder of its own (--data-dir)"
        )


async def require_no_twin(bus: Bus, holder: Holder) -> None:
    """Raises `TwinNode` rather than disturb a node that runs under the same name."""
    if await bus.leases.has_twin(node_lease(holder.node), holder):
        raise TwinNode(holder.node)


class Membership(Actor):
    """Holds the lease `node.{id}` and says in the log that the node is there; says so again when it was lost."""

    def __init__(self, bus: Bus, joining: NodeJoined) -> None:
        super().__init__(bus)
        self._joining = joining
        self._holder = Holder(node=joining.node, incarnation=joining.incarnation)
        self._lease: Lease | None = None
        self._renewed = asyncio.Event()
        """Set for a moment at each renewal."""

    async def setup(self) -> None:
        await self._acquire()
        await self._join()

    async def teardown(self) -> None:
        """A clean leave: nobody needs to wait for the lease to run out."""
        with suppress(BusError, TimeoutError):
            left = NodeLeft(node=self._holder.node, incarnation=self._holder.incarnation)
            await self.bus.log.record(left, deadline_s=1.0)
            if self._lease is not None and self._lease.valid:
                await self._lease.release()

    @forever
    async def renew(self) -> None:
        while self._lease is not None:
            await asyncio.sleep(self._lease.ttl_s / 3)
            try:
                await self._lease.renew()
            except BusAway:
                await self.bus.until_connected()
                continue
            except LeaseLost:
                self.logger.warning("membership.lapsed")
                await self._require_alone()
                await self._acquire()
            self._renewed.set()
            self._renewed.clear()

    @forever
    async def stay(self) -> None:
        """Rejoin when the leader took this node for lost, or forgot it, though it lives: with a lease, or it is lost again."""
        async for _ in self.bus.view.states():
            while self._is_missed and not (self._lease and self._lease.valid):
                await self._renewed.wait()
            if self._is_missed:
                await self._join()

    @property
    def _is_missed(self) -> bool:
        known = self.bus.view.state.nodes.get(self._holder.node)
        return known is None or (known.incarnation == self._holder.incarnation and not known.alive)

    async def _require_alone(self) -> None:
        holder = None
        with suppress(BusAway):  # a twin is met again at the next renewal
            holder = await self.bus.leases.holder(node_lease(self._holder.node))
        if holder is not None and holder != self._holder:
            raise TwinNode(self._holder.node)

    async def _acquire(self) -> None:
        while True:
            try:
                self._lease = await self.bus.leases.acquire(node_lease(self._holder.node), self._holder)
                return
            except BusAway:
                await self.bus.until_connected()
            except LeaseLost:
                await asyncio.sleep(self.bus.leases.ttl_s / 10)

    async def _join(self) -> None:
        """However long it takes to see it: to give up would be to say that the node has left."""
        seq = await self.bus.log.record(self._joining)
        await self.bus.view.until(lambda state: state.seq >= seq, timeout_s=None)
        self.logger.info("node.joined", seq=seq)
