"""Hundreds of streams with slow, stalled and vanishing clients: nobody else suffers, and nothing is kept.

`make chaos` does it for ten minutes; `TROUPE_CROWD_S` says how long.
"""

import asyncio
import os
from pathlib import Path

import httpx
import psutil
import pytest
from msgspec import Struct

from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec, SimulatedSpeed
from tests.chaos.rough_clients import RoughClients
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

MODEL = ModelId("sim")
MOST_GROWTH = 1.25
"""Of an API process's memory after its warm-up."""


class Weight(Struct, frozen=True):
    """What an API process holds."""

    resident_mib: float
    files: int


@pytest.mark.chaos
async def test_ten_minutes_of_rough_clients(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = float(os.environ.get("TROUPE_CROWD_S", "600"))
    monkeypatch.delenv("TROUPE_CROWD_S", raising=False)  # a node knows no such setting
    await rough(start_node, tmp_path, clients=500, seconds=seconds)


async def test_a_moment_of_rough_clients(start_node: StartNode, tmp_path: Path) -> None:
    await rough(start_node, tmp_path, clients=60, seconds=8)


async def rough(start_node: StartNode, folder: Path, clients: int, seconds: float) -> None:
    node = await start_node("door", "--model", "none", "--log-level", "info")
    await load(node, make_random_llama(folder / "tokenizer", hidden=32, layers=1, context=100_000))
    crowd = RoughClients(node.info.api_url, MODEL, clients, seed=20261121)
    idle = weight(node)
    async with crowd.streaming():
        await asyncio.sleep(seconds / 4)
        before = weight(node)
        await asyncio.sleep(seconds * 3 / 4)
        after = weight(node)
    print(f"\n{clients} clients, {seconds:g} s: {dict(crowd.ended)}; {idle} {before} {after}")
    assert not [how for how in crowd.ended if how.startswith("broken")], crowd.ended
    assert crowd.ended["whole"] >= clients / 10
    assert crowd.ended["vanished"] >= 1
    assert after.resident_mib <= MOST_GROWTH * before.resident_mib
    await until_nothing_is_kept(node, idle)


async def until_nothing_is_kept(node: NodeProcess, idle: Weight) -> None:
    """Every request of a client that has gone is gone too."""
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while weight(node).files > idle.files + 8 or await running(client, node):  # noqa: ASYNC110  # in others
            await asyncio.sleep(0.1)


async def running(client: httpx.AsyncClient, node: NodeProcess) -> float:
    """Requests of all stages, as the metrics say."""
    said = (await client.get(f"{node.info.api_url}/metrics")).text
    rows = [line for line in said.splitlines() if line.startswith("troupe_requests_open{")]
    assert rows, said
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


async def load(node: NodeProcess, folder: Path) -> None:
    async with watching(node) as bus:
        speed = SimulatedSpeed(prefill=1e6, decode=100, slots=1024)
        spec = ModelSpec(id=MODEL, source=str(folder), node=node.node, engine="simulated", simulated=speed)
        assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        await bus.view.until(lambda s: any(i.status == "ready" for i in s.instances_of(MODEL)), 60)


def weight(node: NodeProcess) -> Weight:
    process = psutil.Process(node.process.pid)
    return Weight(round(process.memory_info().rss / 2**20, 1), process.num_fds())
