"""What a split costs where nothing forces it: one process beside two ranks on the same two cores; and how long a lost rank is felt."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import openai
import pytest

from bus.server import Server
from schemas.instance import Split
from tests.bench.table import Table, percentile
from tests.models import make_random_llama
from tests.nodes import StartNode, watching
from tests.scenes.test_shards import Stage

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

SIZES = {"1M": (128, 4), "16M": (384, 8)}
"""Width and layers."""
TOKENS, ROUNDS, LOSSES = 192, 5, 20
FORMS: dict[str, tuple[Split, int]] = {
    "one process": ("whole", 1),
    "pipeline x2": ("pipeline", 2),
    "tensor x2": ("tensor", 2),
}


class Spoken(NamedTuple):
    """One answer; seconds."""

    first_s: float
    token_s: float


@pytest.fixture
async def stage(nats_server: Server, start_node: StartNode) -> AsyncIterator[Stage]:
    url = ("--nats", nats_server.url, "--model", "none")
    nodes = [await start_node("a", *url), await start_node("b", *url, "--no-api")]
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(watching(nodes[0]))
        client = openai.AsyncOpenAI(base_url=nodes[0].openai_url, api_key="none", max_retries=0, timeout=600)
        yield Stage(nodes, bus, await stack.enter_async_context(client))


async def speak(stage: Stage, model: str, tokens: int = TOKENS) -> Spoken:
    began, arrived = perf_counter(), list[float]()
    stream = await stage.client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me a long story"}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            arrived.append(perf_counter())
    return Spoken(arrived[0] - began, (arrived[-1] - arrived[0]) / (tokens - 1))


@pytest.mark.parametrize("size", SIZES)
async def test_one_process_and_two_ranks(stage: Stage, table: Table, tmp_path: Path, size: str) -> None:
    hidden, layers = SIZES[size]
    folder = make_random_llama(tmp_path / "model", hidden, layers, heads=hidden // 64 * 2)
    for name, (split, ranks) in FORMS.items():
        await stage.load(name, folder, split, ranks)
    alone: dict[str, list[Spoken]] = {name: [] for name in FORMS}
    together: dict[str, list[float]] = {name: [] for name in FORMS}
    for _ in range(ROUNDS):
        for name in FORMS:
            alone[name].append(await speak(stage, name))
            began = perf_counter()
            await asyncio.gather(*(speak(stage, name) for _ in range(8)))
            together[name].append(8 * TOKENS / (perf_counter() - began))
    whole = percentile([each.token_s for each in alone["one process"]], 0.5)
    for name, (split, ranks) in FORMS.items():
        first = 1000 * percentile([each.first_s for each in alone[name]], 0.5)
        step = percentile([each.token_s for each in alone[name]], 0.5)
        computed = whole / (ranks if split == "tensor" else 1)  # ranks of a pipeline take turns
        note = (
            f"TTFT p50 {first:.1f} ms; 8 streams {percentile(together[name], 0.5):,.0f} tokens/s; "
            f"{max(0.0, 1 - computed / step):.0%} of a step is communication and waiting"
        )
        table.add(f"Split, {size} parameters", name, f"{1 / step:,.0f} tokens/s", note=note)


async def test_a_lost_rank(stage: Stage, table: Table, tmp_path: Path) -> None:
    """From kill -9 to the first token that comes after it."""
    folder = make_random_llama(tmp_path / "model", 128, 4)
    instance = await stage.load("split", folder, "pipeline")
    gaps: list[float] = []
    for loss in range(LOSSES):
        (reading,) = stage.readings("split")[:1]
        task = asyncio.create_task(reading.read())
        await reading.begun.wait()
        os.kill(stage.runner(instance.shards[loss % 2].node), signal.SIGKILL)
        killed = perf_counter()
        await task
        silences = [(after - before, after) for before, after in pairwise(reading.times)]
        gaps.append(max(silences)[1] - killed)
        await stage.ready("split", loss + 2)
    note = f"p99 {percentile(gaps, 0.99):.2f} s, least {min(gaps):.2f} s; {LOSSES} losses, each rank in turn"
    table.add(
        "A lost rank", "kill -9 to the first token after it, p50", f"{percentile(gaps, 0.5):.2f} s", note=note
    )
