"""How soon a client that leaves frees its slot, beside how long the step that it interrupts takes."""

import asyncio
from asyncio import Queue
from pathlib import Path
from time import perf_counter

import httpx
import msgspec
import pytest

from bus.bus import Bus
from bus.commands import command
from schemas.chunks import Ended, Frame, Prefilled, Tokens
from schemas.commands import UnloadModel
from schemas.ids import ModelId
from tests.bench.contenders import SHAPES, load
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

TIMES = 15
LONG = "ab" * 8000


class Ear:
    """When the runner's chunks came by on the bus: what a step takes, and when a request ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended: Queue[float] = Queue()
        self.steps: list[float] = []
        self._last = 0.0

    def hear(self, payload: bytes, _subject: str) -> None:
        now = perf_counter()
        for chunk in msgspec.msgpack.decode(payload, type=Frame):
            if isinstance(chunk, Prefilled | Tokens):
                if self._last:
                    self.steps.append(now - self._last)
                self._last = now
                self.began.set()
            elif isinstance(chunk, Ended):
                self._last = 0.0
                self.ended.put_nowait(now)


@pytest.mark.parametrize("while_", ["prefilling", "decoding"])
async def test_a_client_that_leaves(while_: str, table: Table, start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / "16M", **SHAPES["16M"], context=40_000)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, "16M")
    content = LONG if while_ == "prefilling" else "the sea"
    async with watching(node) as bus:
        ear = Ear()
        async with bus.listening(bus.subjects.chunks, ear.hear):
            left = [await leave(node, ear, f"{number:04d} {content}") for number in range(TIMES)]
        await unload(bus)
    step, p50, p99 = percentile(ear.steps, 0.99), percentile(left, 0.5), percentile(left, 0.99)
    note = f"p50 {ms(p50)}; a step takes p50 {ms(percentile(ear.steps, 0.5))}, p99 {ms(step)}"
    table.add(
        "Cancel", f"a client leaves while {while_}: until its slot is free, p99", ms(p99), "<= one step", note
    )


async def leave(node: NodeProcess, ear: Ear, content: str) -> float:
    """Seconds from the client's disconnect to the end of its request in the runner."""
    body = {
        "model": "16M",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 5000,
        "temperature": 0,
        "stream": True,
    }
    ear.began.clear()
    async with httpx.AsyncClient(timeout=None) as client:
        sending = client.build_request("POST", f"{node.info.api_url}/v1/chat/completions", json=body)
        answer = await client.send(sending, stream=True)
        await ear.began.wait()
        gone = perf_counter()
        await answer.aclose()
        async with asyncio.timeout(60):
            return await ear.ended.get() - gone


async def unload(bus: Bus) -> None:
    model = ModelId("16M")
    await command(bus, UnloadModel(model=model))
    await bus.view.until(lambda state: not state.instances_of(model), 60)
