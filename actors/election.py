"""Holds or watches the lease `leader`, and starts and stops the master with it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

from actors.actor import Actor, forever
from actors.supervisor import reason_of
from bus.bus import Bus
from bus.errors import BusAway, BusError, Fenced, LeaseLost
from bus.lease import LEADER, Holder, Lease

Lead = Callable[[Lease], Awaitable[None]]
DEPOSED = (LeaseLost, Fenced, BusAway)
LONGEST_WAIT_S = 0.05
"""Before it reaches for a free lease a node waits a random while, so that a crowd does not collide."""


class Election(Actor):
    """At any time at most one node's election runs `lead`."""

    def __init__(self, bus: Bus, holder: Holder, lead: Lead) -> None:
        super().__init__(bus)
        self._holder = holder
        self._lead = lead

    @forever
    async def contend(self) -> None:
        while True:
            await self._until_free()
            await asyncio.sleep(random.uniform(0, LONGEST_WAIT_S))
            try:
                lease = await self.bus.leases.acquire(LEADER, self._holder)
            except LeaseLost:
                continue
            except BusAway:
                await self.bus.until_connected()
                continue
            await self._reign(lease)

    async def _until_free(self) -> None:
        async with aclosing(self.bus.leases.holders(LEADER)) as pictures:
            async for held in pictures:
                leader = held.get(LEADER)
                if leader is None or leader.node == self._holder.node:
                    return

    async def _reign(self, lease: Lease) -> None:
        """Lead for as long as the lease is ours; a clean end gives it up at once."""
        self.logger.info("leader.elected", revision=lease.revision)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew(lease))
                tasks.create_task(self._run_lead(lease))
        except* DEPOSED as deposed:
            self.logger.warning("leader.deposed", reason=reason_of(deposed))
        finally:
            if lease.valid:
                with suppress(BusError):
                    await lease.release()

    async def _run_lead(self, lease: Lease) -> None:
        await self._lead(lease)

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(lease.ttl_s / 3)
            try:
                await lease.renew()
            except BusAway as away:
                if not lease.valid:
                    raise LeaseLost("the lease could not be renewed in time") from away
