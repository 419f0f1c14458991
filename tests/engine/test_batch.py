"""Sequences that decode together say what each says alone, on several architectures."""

from pathlib import Path
from typing import Any

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import Engine
from schemas.chunks import Chunk, Ended, Failed, Prefilled, SequenceEnded, TokenLogprobs, Tokens
from schemas.ids import RequestId
from schemas.task import Grammar, Made, Task, pack_ids
from tests.engine.architectures import make_random
from tests.engine.running import ORIGIN, a_task, finish, ids, run, step_ahead, tokens

GUIDE = Path(__file__).parents[2] / "actors/engine/guide/model"
NEAR = 1e-4
"""Log-probabilities closer than this are a tie: floating point decides it, and may do so differently in a batch."""


def loaded(folder: Path) -> Engine:
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN, cache_bytes=0))
    engine.load(lambda _: None)
    return engine


def ahead(folder: Path) -> Engine:
    """As on a GPU: mlx-lm's batch caches, a token ahead."""
    engine = loaded(folder)
    step_ahead(engine)
    return engine


@pytest.fixture(scope="session", params=["llama", "ahead", "guide", "qwen3", "gemma3_text", "qwen3_next"])
def any_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, warm_engine: Engine
) -> Engine:
    if request.param == "guide":
        return loaded(GUIDE)
    if request.param == "ahead":
        return ahead(make_random("llama", tmp_path_factory.mktemp("models") / "llama"))
    return loaded(make_random(request.param, tmp_path_factory.mktemp("models") / request.param))


def prompt(number: int, length: int) -> list[int]:
    return [(31 * number + 7 * at + at * at % 11) % 500 + 2 for at in range(length)]


GREEDY = [
    a_task(prompt(number, length), f"g{number}", max_tokens=most, logprobs=2)
    for number, (length, most) in enumerate([(5, 60), (1, 20), (33, 40), (70, 9), (2, 1), (20, 60)])
]
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0.8},
    {"temperature": 1.3, "top_p": 0.7},
    {"temperature": 1.0, "top_k": 20},
    {"temperature": 1.0, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    {"temperature": 0.9, "presence_penalty": 0.5, "frequency_penalty": 0.3},
    {"temperature": 0.7, "repetition_penalty": 1.3, "logit_bias": ((17, 4.0), (40, -100.0))},
    {"temperature": 0.0, "frequency_penalty": 1.0, "min_tokens": 8, "stop_ids": (3, 5, 8)},
]
SAMPLED = [
    a_task(prompt(20 + number, 3 + 9 * number), f"s{number}", max_tokens=30, seed=77 + number, **values)
    for number, values in enumerate(SAMPLINGS)
]


class Ties:
    """Where a greedy request that ran alone had two tokens that are as likely."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self._at: dict[tuple[str, int], int] = {}
        for chunk in chunks:
            if isinstance(chunk, Tokens) and chunk.logprobs:
                best, second = chunk.logprobs[0].top_logprobs[:2]
                if best - second < NEAR:
                    self._at.setdefault((chunk.request, chunk.index), chunk.offset)

    def before(self, request: str, found: list[int]) -> list[int]:
        """What floating point cannot change."""
        return found[: self._at.get((request, 0), len(found))]


def alone(engine: Engine, tasks: list[Task]) -> list[Chunk]:
    return [chunk for task in tasks for chunk in run(engine, task)]


def assert_equal(tasks: list[Task], expected: list[Chunk], found: list[Chunk]) -> None:
    assert [chunk for chunk in found if isinstance(chunk, Failed)] == []
    ties = Ties(expected)
    for task in tasks:
        name = str(task.request)
        for index in range(task.n):
            want = ties.before(name, tokens(expected, name, index))
            assert ties.before(name, tokens(found, name, index)) == want, (name, index)
            assert want or task.max_tokens == 0, f"{name} says nothing that can be compared"


def test_together_as_alone(any_engine: Engine) -> None:
    tasks = GREEDY + SAMPLED
    expected = alone(any_engine, tasks)
    assert_equal(tasks, expected, run(any_engine, *tasks))


def test_who_joins_late_and_who_leaves_changes_nobody_else(any_engine: Engine) -> None:
    tasks = GREEDY + SAMPLED
    expected = alone(any_engine, tasks)
    leaver = a_task(prompt(50, 12), "leaver", max_tokens=200)
    found: list[Chunk] = []
    for task in [leaver, *tasks]:
        any_engine.add(task)
        for _ in range(3):
            found += any_engine.step()
        if task is tasks[4]:
            any_engine.cancel(RequestId("leaver"), 0)
    found += finish(any_engine)
    assert_equal(tasks, expected, found)
    assert 5 < len(tokens(found, "leaver")) < 60


def test_who_is_left_alone_in_a_batch_is_joined_again(any_engine: Engine) -> None:
    """A prompt longer than a rotating cache's window, two rows, then one, then two again."""
    stays = a_task(prompt(7, 60), "stays", max_tokens=60)
    leaves = a_task(prompt(8, 60), "leaves", max_tokens=200)
    joins = a_task(prompt(9, 40), "joins", max_tokens=20, temperature=1.0, seed=4)
    expected = alone(any_engine, [stays, joins])
    for task in (stays, leaves):
        any_engine.add(task)
    chunks: list[Chunk] = []
    while not (tokens(chunks, "stays") and tokens(chunks, "leaves")):
        chunks += any_engine.step()
    any_engine.cancel(leaves.request, 0)
    until = len(tokens(chunks, "stays")) + 3
    while len(tokens(chunks, "stays")) < until:
        chunks += any_engine.step()
    any_engine.add(joins)
    chunks += finish(any_engine)
    assert_equal([stays, joins], expected, chunks)


def test_long_prompts_join_short_ones_and_outlive_them(any_engine: Engine) -> None:
    tasks = [
        a_task(prompt(1, 5), "short", max_tokens=300, temperature=1.0, seed=1),
        a_task(prompt(2, 600), "long", max_tokens=40, temperature=1.0, seed=2),
        a_task(prompt(3, 280), "middle", max_tokens=300, temperature=1.0, seed=3),
    ]
    expected = alone(any_engine, tasks)
    any_engine.add(tasks[0])
    found = [chunk for _ in range(200) for chunk in any_engine.step()]
    found += run(any_engine, *tasks[1:])
    assert_equal(tasks, expected, found)
    assert any(isinstance(chunk, Prefilled) and chunk.request == "long" for chunk in found)


def test_sequences_of_one_request_are_those_of_their_indices(any_engine: Engine) -> None:
    three = a_task(prompt(4, 40), "three", n=3, max_tokens=20, temperature=1.0, seed=9)
    chunks = run(any_engine, a_task(prompt(5, 4), "other", max_tokens=40), three)
    said = [tokens(chunks, "three", index) for index in range(3)]
    assert len({tuple(each) for each in said}) == 3 and all(len(each) == 20 for each in said)
    assert said[0] == ids(any_engine, prompt=prompt(4, 40), max_tokens=20, temperature=1.0, seed=9)
    ended = [
        chunk for chunk in chunks if chunk.request == "three" and isinstance(chunk, SequenceEnded | Ended)
    ]
    assert [type(chunk) for chunk in ended] == [SequenceEnded] * 3 + [Ended]
    assert ended[-1].usage.completion_tokens == 60  # type: ignore[union-attr]


def test_a_later_attempt_goes_on_with_each_sequence(any_engine: Engine) -> None:
    values: dict[str, Any] = {"n": 4, "max_tokens": 20, "temperature": 1.0, "seed": 9}
    values |= {"presence_penalty": 0.4, "repetition_penalty": 1.2}
    whole = run(any_engine, a_task(prompt(4, 40), **values))
    said = [tokens(whole, index=index) for index in range(4)]
    made = (
        Made(pack_ids(said[0][:7])),
        Made(),
        Made(pack_ids(said[2]), "stop"),
        Made(pack_ids(said[3][:19])),
    )
    chunks = run(any_engine, a_task(prompt(4, 40), made=made, **values))
    assert [tokens(chunks, index=index) for index in range(4)] == [said[0][7:], said[1], [], said[3][19:]]
    assert {chunk.index for chunk in chunks if isinstance(chunk, SequenceEnded)} == {0, 1, 3}
    assert chunks[-1].usage.completion_tokens == 80  # type: ignore[union-attr]


def test_log_probabilities_are_those_of_each_row(any_engine: Engine) -> None:
    tasks = [
        a_task(prompt(60, 9), "plain", logprobs=3, max_tokens=8),
        a_task(prompt(61, 30), "none", max_tokens=8),
        a_task(prompt(62, 4), "biased", logprobs=0, max_tokens=8, logit_bias=((9, 50.0),)),
        a_task(prompt(63, 4), "drawn", logprobs=5, max_tokens=8, temperature=2.0, seed=1, n=2),
    ]
    expected, found = details(alone(any_engine, tasks)), details(run(any_engine, *tasks))
    assert found.keys() == expected.keys() and len(found) == 8 * 4
    for at, of in found.items():
        assert of.logprob == pytest.approx(expected[at].logprob, abs=1e-4)
        assert of.top_logprobs == pytest.approx(expected[at].top_logprobs, abs=1e-4)
        assert len(of.top_ids) == {"plain": 3, "biased": 0, "drawn": 5}[at[0]]
    assert found["biased", 0, 0].logprob < -1  # its own, not that of the bias


def details(chunks: list[Chunk]) -> dict[tuple[str, int, int], TokenLogprobs]:
    return {
        (chunk.request, chunk.index, chunk.offset): chunk.logprobs[0]
        for chunk in chunks
        if isinstance(chunk, Tokens) and chunk.logprobs
    }


def test_a_grammar_holds_beside_others(any_engine: Engine) -> None:
    digits = Grammar(kind="regex", source="[0-9]{12}")
    tasks = [
        a_task(prompt(70, 9), "digits", grammar=digits, temperature=1.0, seed=3, max_tokens=20),
        a_task(prompt(71, 20), "free", max_tokens=30, temperature=1.0, seed=4),
    ]
    expected = alone(any_engine, tasks)
    assert_equal(tasks, expected, run(any_engine, *tasks))
    assert len(tokens(expected, "digits")) <= 12 < len(tokens(expected, "free"))
