"""What can happen to a cluster: seeded blows, each with the time until requests are answered again."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any

import httpx
from msgspec import Struct

from bus.bus import Bus
from tests.chaos.cluster import GUIDE, SIM, Cluster, frozen
from tests.chaos.crowd import stream

HEAL_S = 90.0
"""Within this time after a blow each model answers again; most of it is room for a busy machine."""
Blow = Callable[["Fate"], Coroutine[Any, Any, None]]


class Struck(Struct):
    """One blow, and when each model answered after it; seconds."""

    blow: str
    recovered_s: dict[str, float] = {}


class Fate:
    """Deals blows, one after the other, sometimes the next before the last one has healed."""

    def __init__(self, cluster: Cluster, bus: Bus, seed: int) -> None:
        self.cluster = cluster
        self.bus = bus
        self.random = Random(seed)
        self.history: list[Struck] = []

    async def strike_until(self, end: float) -> None:
        """Random blows until that time of the event loop."""
        loop = asyncio.get_running_loop()
        while loop.time() < end:
            name = self.random.choices([*BLOWS], [WEIGHTS[blow] for blow in BLOWS])[0]
            async with asyncio.TaskGroup() as both:
                both.create_task(self.struck(name))
                if self.random.random() < 0.25:
                    await asyncio.sleep(self.random.uniform(0, 2))
                    both.create_task(
                        self.struck(self.random.choice(["runner killed", "runner frozen", "bus killed"]))
                    )
            await asyncio.sleep(self.random.uniform(0.5, 4))

    async def struck(self, name: str) -> None:
        """One blow; returns when both models have answered a request that was sent after it."""
        loop = asyncio.get_running_loop()
        struck, began = Struck(name), loop.time()
        self.history.append(struck)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(BLOWS[name](self))
            for model in (SIM, GUIDE):
                await self._answered(model)
                struck.recovered_s[model] = loop.time() - began
        for seat in self.cluster.seats:
            seat.require_alive()

    async def _answered(self, model: str) -> None:
        async with asyncio.timeout(HEAL_S), httpx.AsyncClient(timeout=15) as http:
            while True:
                for seat in self.cluster.seats:
                    if seat.up and (await stream(http, seat, model, 5)).kind == "answered":
                        return
                await asyncio.sleep(0.1)


async def kill_runner(fate: Fate) -> None:
    runners = fate.cluster.runners()
    if runners:
        with suppress(ProcessLookupError):
            os.kill(fate.random.choice(runners).pid, signal.SIGKILL)


async def freeze_runner(fate: Fate) -> None:
    runners = fate.cluster.runners()
    if runners:
        await frozen(fate.random.choice(runners).pid, fate.random.uniform(0.5, 15))


async def kill_leader(fate: Fate) -> None:
    """It comes back as the same node a while later."""
    leader = fate.cluster.leader(fate.bus)
    if leader is not None and leader.up:
        await leader.kill()
        await asyncio.sleep(fate.random.uniform(0, 5))
        await leader.start()


async def kill_follower(fate: Fate) -> None:
    leader = fate.cluster.leader(fate.bus)
    for seat in (fate.cluster.a, fate.cluster.b):
        if seat is not leader and seat.up:
            await seat.kill()
            await asyncio.sleep(fate.random.uniform(0, 5))
            await seat.start()
            return


async def freeze_leader(fate: Fate) -> None:
    leader = fate.cluster.leader(fate.bus)
    if leader is not None and leader.up:
        await leader.freeze(fate.random.uniform(0.5, 10))


async def freeze_follower(fate: Fate) -> None:
    if fate.cluster.c.up:
        await fate.cluster.c.freeze(fate.random.uniform(0.5, 10))


async def kill_bus(fate: Fate) -> None:
    if (pid := fate.cluster.bus_pid()) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def freeze_bus(fate: Fate) -> None:
    if (pid := fate.cluster.bus_pid()) is not None:
        await frozen(pid, fate.random.uniform(0.5, 8))


BLOWS: dict[str, Blow] = {
    "runner killed": kill_runner,
    "runner frozen": freeze_runner,
    "leader killed": kill_leader,
    "leader frozen": freeze_leader,
    "follower killed": kill_follower,
    "follower frozen": freeze_follower,
    "bus killed": kill_bus,
    "bus frozen": freeze_bus,
}
WEIGHTS = {
    "runner killed": 4,
    "runner frozen": 2,
    "leader killed": 3,
    "leader frozen": 2,
    "follower killed": 1,
    "follower frozen": 1,
    "bus killed": 3,
    "bus frozen": 2,
}
