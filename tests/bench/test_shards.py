"""What a split costs where nothing forces it: one process beside two ranks on the same two cores; and how long a lost rank is felt."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import NamedTuple

import msgspec
import openai
import pytest

from bus.server import Server
from schemas.group import Seat
from schemas.instance import Split
from schemas.split import sharers
from tests.bench.rank import Job
from tests.bench.rank import Spoken as Answer
from tests.bench.table import Table, percentile
from tests.models import make_random_llama
from tests.nodes import HERE, StartNode, watching
from tests.ports import free_ports
from tests.scenes.test_shards import Stage
from tests.until import until

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

SIZES = {"1M": (128, 4), "16M": (384, 8)}
"""Width and layers."""
TOKENS, ROUNDS, LOSSES = 48, 2, 20
FORMS: dict[str, tuple[Split, int]] = {
    "one process": ("whole", 1),
    "pipeline x2": ("pipeline", 2),
    "tensor x2": ("tensor", 2),
    "pipeline x4": ("pipeline", 4),
    "tensor x4": ("tensor", 4),
    "hybrid 2x2": ("hybrid", 4),
}
PROMPT, STEPS, ANSWERS = 64, 64, 3


class Spoken(NamedTuple):
    """One answer; seconds."""

    first_s: float
    token_s: float


@pytest.fixture
async def stage(nats_server: Server, start_node: StartNode) -> AsyncIterator[Stage]:
    url = ("--nats", nats_server.url, "--model", "none")
    nodes = [await start_node("a", *url), *[await start_node(name, *url, "--no-api") for name in "bcd"]]
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
async def test_one_process_and_shards_through_nodes(
    stage: Stage, table: Table, tmp_path: Path, size: str
) -> None:
    hidden, layers = SIZES[size]
    folder = make_random_llama(tmp_path / "model", hidden, layers, heads=8)
    forms = {name: form for name, form in FORMS.items() if form[1] <= len(stage.nodes)}
    for name, (split, ranks) in forms.items():
        await stage.load(name, folder, split, ranks)
    alone: dict[str, list[Spoken]] = {name: [] for name in forms}
    together: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name in forms:
            alone[name].append(await speak(stage, name))
            began = perf_counter()
            await asyncio.gather(*(speak(stage, name, TOKENS // 3) for _ in range(8)))
            together[name].append(8 * (TOKENS // 3) / (perf_counter() - began))
    for name in forms:
        first = 1000 * percentile([each.first_s for each in alone[name]], 0.5)
        step = percentile([each.token_s for each in alone[name]], 0.5)
        note = f"TTFT p50 {first:.1f} ms; 8 streams {percentile(together[name], 0.5):,.0f} tokens/s"
        table.add(f"Split, {size} parameters, through nodes", name, f"{1 / step:,.0f} tokens/s", note=note)


@pytest.mark.parametrize("size", SIZES)
def test_time_spent_in_communication(table: Table, tmp_path: Path, size: str) -> None:
    """The engines alone; then one of their ranks by itself, which computes the same and talks to nobody."""
    hidden, layers = SIZES[size]
    folder = make_random_llama(tmp_path / "model", hidden, layers, heads=8)
    job = Job(str(folder), str(tmp_path), None, PROMPT, STEPS, ANSWERS)
    for name, (split, ranks) in FORMS.items():
        step = step_s(run_ranks(seats(split, ranks, layers), job))
        silent = msgspec.structs.replace(job, silent=True)
        computed = step_s(run_ranks(seats(split, ranks, layers)[:1], silent))
        needed = computed * stages(split, ranks)  # stages are equal, and take turns
        note = (
            f"{step * 1e3:.2f} ms a step, {needed * 1e3:.2f} ms of them computing, "
            f"{max(0.0, 1 - needed / step):.0%} communication and waiting for cores"
        )
        table.add(f"Split, {size} parameters, engines alone", name, f"{1 / step:,.0f} tokens/s", note=note)


def seats(split: Split, ranks: int, layers: int) -> list[Seat | None]:
    if split == "whole":
        return [None]
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(ranks))
    cut = () if split == "tensor" else (layers // stages(split, ranks),) * ranks
    return [Seat(rank=rank, split=split, addresses=addresses, layers=cut) for rank in range(ranks)]


def stages(split: Split, ranks: int) -> int:
    return ranks // sharers(split, ranks)


def run_ranks(those: Sequence[Seat | None], job: Job) -> list[Answer]:
    """The answers of the first of them."""
    job = msgspec.structs.replace(job, rounds=f"{job.rounds}/{token_hex(4)}-")
    started: list[subprocess.Popen[bytes]] = []
    try:
        for seat in those:
            command = (sys.executable, "-m", "tests.bench.rank")
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE))
            pipe = started[-1].stdin
            assert pipe is not None
            pipe.write(msgspec.json.encode(msgspec.structs.replace(job, seat=seat)))
            pipe.close()
        told = started[0].stdout
        assert told is not None
        return msgspec.json.decode(told.read(), type=list[Answer])
    finally:
        for process in started:
            process.kill()
            process.wait()


def step_s(answers: list[Answer]) -> float:
    return percentile([each.token_s for each in answers], 0.5)


async def test_a_lost_rank(stage: Stage, table: Table, tmp_path: Path) -> None:
    """From kill -9 to the first token that comes after it; a spare waits on each node."""
    folder = make_random_llama(tmp_path / "model", 128, 4)
    instance = await stage.load("split", folder, "pipeline")
    gaps: list[float] = []
    for loss in range(LOSSES):
        await until(lambda: all(node.has_spare for node in stage.nodes[:2]))
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
