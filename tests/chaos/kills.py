"""Kills and stops of runners, nodes and the leader at seeded random moments, under readers who are not to notice."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import openai

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec, SimulatedSpeed
from tests.chaos.cluster import Seat, ready
from tests.chaos.readers import MODEL, Readers
from tests.chaos.resumes import Resumes
from tests.nodes import watching

SPEC = ModelSpec(
    id=ModelId(MODEL),
    source="builtin:guide",
    engine="simulated",
    replicas=3,
    simulated=SimulatedSpeed(prefill=2000, decode=50, slots=32),
)
HEALED_S = 60.0
Kill = Callable[["Kills"], Coroutine[Any, Any, None]]


class Kills:
    """`front` holds the clients and is not touched; `seats` carry the model and lead."""

    def __init__(self, front: Seat, seats: list[Seat], bus: Bus, resumes: Resumes, seed: int) -> None:
        self._seats = seats
        self._front = front
        self._bus = bus
        self._resumes = resumes
        self._random = Random(seed)
        self._returns: set[asyncio.Task[None]] = set()
        self.dealt: Counter[str] = Counter()

    async def deal(self, count: int) -> None:
        """One after the other, mostly when two copies of the model are ready."""
        while self.dealt.total() < count:
            if self._random.random() < 0.75:
                await self._bus.view.until(lambda _: len(ready(self._bus)) >= 2, timeout_s=HEALED_S)
            await asyncio.sleep(self._random.uniform(0, 0.5))
            name = self._random.choices([*KILLS], [WEIGHTS[kill] for kill in KILLS])[0]
            await KILLS[name](self)
            for seat in (self._front, *self._seats):
                seat.require_alive()
        await asyncio.gather(*self._returns)

    def _note(self, kind: str) -> None:
        self.dealt[kind] += 1
        self._resumes.struck(kind)

    async def strike_runner(self, kind: str, number: signal.Signals) -> None:
        pids = [pid for seat in self._seats if seat.node is not None for pid in seat.node.runner_pids()]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(pids), number)
                self._note(kind)

    async def strike_node(self, kind: str, chosen: Callable[[Seat], bool], *, clean: bool = False) -> None:
        """One node at a time: the model is to live somewhere."""
        up = [seat for seat in self._seats if seat.node is not None]
        hit = [seat for seat in up if chosen(seat)]
        if len(up) < len(self._seats) or not hit:
            return
        seat = self._random.choice(hit)
        self._note(kind)
        if clean:
            node, seat.node = seat.node, None
            assert node is not None
            await node.stop()
        else:
            await seat.kill()
        back = asyncio.create_task(self._return(seat, self._random.uniform(0, 3)))
        self._returns.add(back)
        back.add_done_callback(self._returns.discard)

    async def _return(self, seat: Seat, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await seat.start()

    def leads(self, seat: Seat) -> bool:
        leader = self._bus.view.state.leader
        return leader is not None and seat.node is not None and seat.node.node == leader.node


KILLS: dict[str, Kill] = {
    "runner killed": lambda kills: kills.strike_runner("runner killed", signal.SIGKILL),
    "runner stopped": lambda kills: kills.strike_runner("runner stopped", signal.SIGTERM),
    "node killed": lambda kills: kills.strike_node("node killed", lambda seat: not kills.leads(seat)),
    "node stopped": lambda kills: kills.strike_node("node stopped", lambda _: True, clean=True),
    "leader killed": lambda kills: kills.strike_node("leader killed", kills.leads),
}
WEIGHTS = {"runner killed": 8, "runner stopped": 3, "node killed": 1, "node stopped": 1, "leader killed": 1}


@asynccontextmanager
async def battlefield(folder: Path, server: Server) -> AsyncIterator[tuple[Seat, list[Seat], Bus]]:
    """A front that holds the clients, and three nodes that carry and lead, with the model ready three times."""
    nats = ("--nats", server.url, "--model", "none")
    front = Seat("front", folder, *nats, "--api-only")
    seats = [Seat(name, folder, *nats, "--no-api") for name in ("a", "b", "c")]
    async with AsyncExitStack() as stack:
        for seat in (front, *seats):
            stack.push_async_callback(_stop, seat)
        await asyncio.gather(*(seat.start() for seat in (front, *seats)))
        assert front.node is not None
        bus = await stack.enter_async_context(watching(front.node))
        assert isinstance(await command(bus, LoadModel(spec=SPEC)), Done)
        await bus.view.until(lambda _: len(ready(bus)) == SPEC.replicas, timeout_s=HEALED_S)
        yield front, seats, bus


async def _stop(seat: Seat) -> None:
    if seat.node is not None and seat.node.process.returncode is None:
        await seat.node.stop()


async def killing(
    folder: Path, server: Server, seed: int, kills: int, readers: int, tokens: int
) -> tuple[Readers, Kills, Resumes]:
    """So many kills while so many readers read."""
    async with battlefield(folder, server) as (front, seats, bus):
        client = openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0, timeout=120)
        crowd, resumes = Readers(client, readers, tokens), Resumes()
        dealing = Kills(front, seats, bus, resumes, seed)
        await crowd.learn()
        async with client, bus.listening(bus.subjects.chunks, resumes.hear), asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.read_on())
            await dealing.deal(kills)
            crowd.leave()
        return crowd, dealing, resumes
