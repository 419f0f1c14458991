"""Templates and tokens at the door, beside the same in the worker: what that saves the worker, and the client."""

from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import pytest

from bus.server import Server
from tests.bench.contenders import SHAPES, load
from tests.bench.crowd import Job, Result
from tests.bench.processes import CpuMeter, crowd
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, is_spare

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

STREAMS, ROUNDS, TOKENS = 8, 6, 64
WORDS = 150
"""Of a prompt; each is new, so that none is in a cache."""


class Side(NamedTuple):
    """A cluster of its own, on the same bus."""

    door: NodeProcess
    core: NodeProcess
    model: str

    async def ask(self, prompts: list[str]) -> tuple[Result, float]:
        """The clients' account, and the CPU seconds of the runner."""
        host, port = self.door.info.api_url.removeprefix("http://").split(":")
        meter = CpuMeter({"runner": runner_pid(self.core)})
        job = Job(
            host=host, port=int(port), model=self.model, streams=len(prompts), requests=1,
            tokens=TOKENS, prompts=prompts, greedy=True,
        )  # fmt: skip
        return await crowd(job), meter.read()["runner"]


class Sum:
    """All rounds of one side."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0
        self.tokens = 0
        self.first_s: list[float] = []
        self.whole_s: list[float] = []

    def add(self, result: Result, cpu_s: float) -> None:
        assert not result.errors and result.tokens == STREAMS * TOKENS
        self.cpu_s += cpu_s
        self.wall_s += result.wall_s
        self.tokens += result.tokens
        self.first_s += result.first_s
        self.whole_s += result.whole_s


def runner_pid(core: NodeProcess) -> int:
    """Of the one runner, whichever program it is."""
    (pid,) = (
        child.pid
        for child in psutil.Process(core.process.pid).children()
        if any(word.endswith("runner") for word in child.cmdline()) and not is_spare(child)
    )
    return pid


async def side(start_node: StartNode, server: Server, folder: Path, name: str, program: str) -> Side:
    url = ("--nats", server.url, "--cluster", name, "--model", "none", "--log-level", "info")
    core = await start_node(f"{name}-core", *url, "--no-api", program=program)
    door = await start_node(f"{name}-door", *url, "--api-only", program=program)
    await load(core, folder, name)
    return Side(door, core, name)


def prompt(chance: Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(chance.choices(letters, k=chance.randint(2, 8))) for _ in range(WORDS))


@pytest.mark.parametrize("size", ["1M"])
async def test_tokens_at_the_door(
    size: str, table: Table, start_node: StartNode, nats_server: Server, tmp_path: Path
) -> None:
    """Both sides take turns with the same prompts."""
    folder, chance = make_random_llama(tmp_path / "model", context=8192, **SHAPES[size]), Random(size)
    door = await side(start_node, nats_server, folder, "at-the-door", "actors.cli")
    worker = await side(start_node, nats_server, folder, "in-the-worker", "tests.bench.worker_tokens")
    sums = {door.model: Sum(), worker.model: Sum()}
    for round_number in range(ROUNDS + 1):
        prompts = [prompt(chance) for _ in range(STREAMS)]
        for each in (door, worker) if round_number % 2 else (worker, door):
            result, cpu_s = await each.ask(prompts)
            if round_number:  # the first one warms
                sums[each.model].add(result, cpu_s)
    tell(table, size, sums[door.model], sums[worker.model])


def tell(table: Table, size: str, door: Sum, worker: Sum) -> None:
    group = f"Tokens at the door, against in the worker, {size} parameters"
    latency, before = percentile(door.whole_s, 0.5), percentile(worker.whole_s, 0.5)
    first, first_before = percentile(door.first_s, 0.5), percentile(worker.first_s, 0.5)
    rate, rate_before = door.tokens / door.wall_s, worker.tokens / worker.wall_s
    answers = STREAMS * ROUNDS
    table.add(
        group, "worker CPU", change(door.cpu_s, worker.cpu_s), "-15 to -20 %",
        f"{worker.cpu_s / answers * 1e3:.1f} -> {door.cpu_s / answers * 1e3:.1f} ms an answer of {TOKENS} tokens, "
        f"{WORDS} words of prompt, {STREAMS} at once",
    )  # fmt: skip
    table.add(group, "latency", change(latency, before), "-10 %", f"p50 {ms(before)} -> {ms(latency)}")
    table.add(
        group,
        "time to first token",
        change(first, first_before),
        "",
        f"p50 {ms(first_before)} -> {ms(first)}",
    )
    table.add(
        group, "throughput", change(rate, rate_before), "+8 %", f"{rate_before:,.0f} -> {rate:,.0f} tokens/s"
    )


def change(after: float, before: float) -> str:
    return f"{(after / before - 1) * 100:+.1f} %"
