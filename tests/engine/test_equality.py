"""The same request is answered with the same tokens: alone, in a batch, from a kept prefix, after a migration.

A grid of parameters over fifty prompts, for each of several architectures. A batch adds up in another order than a row
alone, so that logits differ in their last bits; a draw turns out otherwise where two tokens are equally likely to
within those. Among the 1,620 answers here there is no such tie; a real model may meet one in some ten thousand tokens.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.guide.evaluate import MODEL_FOLDER
from actors.engine.port import Engine
from schemas.task import Made, Task, pack_ids
from tests.engine.architectures import make_random
from tests.engine.running import ORIGIN, a_task, run, tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ARCHITECTURES = ("guide", "llama", "qwen3", "gemma3_text")
VOCABULARY = 512
PROMPTS = 50
LENGTH = 20


class Point(NamedTuple):
    """One of the grid: what is asked of a prompt."""

    request: str
    prompt: list[int]
    n: int
    values: dict[str, Any]

    def task(self, attempt: int = 1, made: tuple[Made, ...] = ()) -> Task:
        return a_task(
            self.prompt,
            self.request,
            n=self.n,
            max_tokens=LENGTH,
            attempt=attempt,
            made=made,
            **self.values,
        )


def grid() -> list[Point]:
    """216 ways to ask, each of one of fifty prompts."""
    random = Random(20261121)
    prompts = [
        [random.randrange(2, VOCABULARY) for _ in range(random.choice((1, 3, 17, 33, 64, 100, 257)))]
        for _ in range(PROMPTS)
    ]
    temperatures = (0.0, 0.7, 1.3)
    filters = ({}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 20, "top_p": 0.9, "min_p": 0.02})
    penalties = (
        {},
        {"presence_penalty": 0.7, "frequency_penalty": 0.3},
        {"repetition_penalty": 1.3, "logit_bias": ((7, 2.0), (9, -100.0))},
    )
    rest = ({"n": 1}, {"n": 2, "stop_ids": (11, 12, 13), "min_tokens": 3})
    points = (
        {"temperature": temperature, **filtered, **penalty, **more}
        for temperature, filtered, penalty, more in product(temperatures, filters, penalties, rest)
    )
    doubled = [dict(point, seed=random.getrandbits(64) - 2**63) for point in points for _ in range(3)]
    return [
        Point(f"r{number}", prompts[number % PROMPTS], values.pop("n"), values)
        for number, values in enumerate(doubled)
    ]


GRID = grid()
Answers = dict[tuple[str, int], list[int]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "guide":
        return MODEL_FOLDER
    return make_random(request.param, tmp_path_factory.mktemp("model") / request.param)


def loaded(folder: Path, **limits: Any) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, **limits))
    engine.load(lambda _: None)
    return engine


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    """Keeps no prefixes."""
    return loaded(folder, cache_bytes=0)


@pytest.fixture(scope="module")
def alone(engine: Engine) -> Answers:
    """What each point is answered with when nothing else runs."""
    answers: Answers = {}
    for point in GRID:
        answers |= answers_of(run(engine, point.task()), [point])
    return answers


def answers_of(chunks: list[Any], points: Iterable[Point]) -> Answers:
    return {
        (point.request, index): tokens(chunks, point.request, index)
        for point in points
        for index in range(point.n)
    }


def test_the_grid_is_large_and_uses_all_prompts() -> None:
    assert len(GRID) >= 200
    assert len({tuple(point.prompt) for point in GRID}) == PROMPTS


def test_batched_equals_alone(engine: Engine, alone: Answers) -> None:
    chunks = run(engine, *(point.task() for point in GRID))
    require_equal(alone, answers_of(chunks, GRID))


def test_from_a_kept_prefix_equals_without(folder: Path, alone: Answers) -> None:
    keeping = loaded(folder)
    for _ in range(2):  # the second time each prompt is there already
        answers: Answers = {}
        for point in GRID:
            answers |= answers_of(run(keeping, point.task()), [point])
        require_equal(alone, answers)
    keeping.close()


def test_migrated_equals_undisturbed(engine: Engine, alone: Answers) -> None:
    random = Random(3)
    moved = [later(point, alone, random) for point in GRID]
    chunks = run(engine, *(task for task, _ in moved))
    answers: Answers = {}
    for point, (_, made) in zip(GRID, moved, strict=True):
        for index, before in enumerate(made):
            answers[point.request, index] = before + tokens(chunks, point.request, index)
    require_equal(alone, answers)


def later(point: Point, alone: Answers, random: Random) -> tuple[Task, list[list[int]]]:
    """The task of a second attempt, which begins anywhere in each of the sequences."""
    whole = [alone[point.request, index] for index in range(point.n)]
    made = [answer[: random.randint(0, max(0, len(answer) - 1))] for answer in whole]
    return point.task(attempt=2, made=tuple(Made(pack_ids(ids)) for ids in made)), made


def require_equal(expected: Answers, said: Answers) -> None:
    others = {key: (expected[key], said.get(key)) for key in expected if said.get(key) != expected[key]}
    assert not others, f"{len(others)} of {len(expected)} answers differ: {others}"
