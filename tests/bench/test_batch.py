"""The engine alone beside raw mlx-lm's BatchGenerator, taking turns on the same model in one process."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from schemas.chunks import Tokens
from tests.bench.contenders import AIMS, SHAPES
from tests.bench.table import Table, percentile
from tests.engine.running import ORIGIN, a_task, run
from tests.models import make_random_llama

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

ROWS = (1, 2, 4, 8, 16)
PROMPT = 90
ROUNDS, TOKENS = {"1M": 9, "16M": 5}, {"1M": 192, "16M": 96}


class Prompts:
    """Never twice the same, so that nobody finds them in a cache."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> list[int]:
        self._count += 1
        return [2 + (self._count * 37 + at * (at + self._count)) % 900 for at in range(PROMPT)]


def raw_generator(folder: Path) -> Callable[[list[list[int]], int], int]:
    """How many tokens come of these prompts."""
    from mlx_lm.generate import BatchGenerator
    from mlx_lm.utils import load_model

    model: Any = load_model(folder)[0]

    def generate(prompts: list[list[int]], tokens: int) -> int:
        generator = BatchGenerator(model, max_tokens=tokens)
        generator.insert(prompts)
        count = 0
        while responses := generator.next_generated():
            count += len(responses)
        generator.close()
        return count

    return generate


def ours(engine: Engine, prompts: list[list[int]], tokens: int) -> int:
    tasks = [a_task(prompt, f"r{at}", max_tokens=tokens) for at, prompt in enumerate(prompts)]
    return sum(isinstance(chunk, Tokens) for chunk in run(engine, *tasks))


@pytest.mark.parametrize("size", SHAPES)
def test_batch(size: str, table: Table, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / size, **SHAPES[size])  # type: ignore[arg-type]
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0))
    engine.load(lambda _: None)
    engine.warm()
    generate, prompts, tokens = raw_generator(folder), Prompts(), TOKENS[size]
    for rows in ROWS:
        took: dict[str, list[float]] = {"raw": [], "ours": []}
        for _ in range(ROUNDS[size]):
            batch = [prompts.next() for _ in range(rows)]
            for name, make in (("raw", generate), ("ours", partial(ours, engine))):
                began = time.perf_counter()
                assert make(batch, tokens) == rows * tokens
                took[name].append(time.perf_counter() - began)
        write(table, size, rows, tokens, took)


def write(table: Table, size: str, rows: int, tokens: int, took: dict[str, list[float]]) -> None:
    raw, own = percentile(took["raw"], 0.5), percentile(took["ours"], 0.5)
    note = f"{rows * tokens / raw:.0f} -> {rows * tokens / own:.0f} tokens/s; {PROMPT} tokens of prompt, {tokens} of answer"
    table.add(
        f"The engine, {size} parameters, float32",
        f"{rows} rows: ratio to raw",
        f"{raw / own:.2f}",
        f"> {AIMS[size]}",
        note,
    )
