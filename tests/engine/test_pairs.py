"""Pipelines of pairs that share the heads of their layers answer as one process does, to the probabilities of their tokens."""

from pathlib import Path

import pytest

from actors.engine.port import Engine
from schemas.chunks import Chunk, Tokens
from schemas.split import splittable
from tests.engine.architectures import make_random
from tests.engine.ranks import Answers, Job
from tests.engine.running import a_task, run, tokens
from tests.engine.test_shards import PROMPTS, joined_and_left, of_all_lengths, require_equal

HYBRIDS = ("llama", "qwen2", "qwen3", "qwen3_moe", "gpt_oss", "ministral3", "deepseek_v3")


def asked(engine: Engine) -> Answers:
    """Together, and one again with what is kept of it; random models say much the same whatever happens within them,
    so it is their probabilities that tell."""
    chunks = run(engine, *(a_task(prompt, f"r{at}", logprobs=3) for at, prompt in enumerate(PROMPTS)))
    chunks += run(engine, a_task(PROMPTS[2], "again", logprobs=3))
    names = ["again", *(f"r{at}" for at in range(len(PROMPTS)))]
    said: Answers = {name: tokens(chunks, name) for name in names}
    return said | {f"{name}, how likely": likelihoods(chunks, name) for name in names}


def asked_much(engine: Engine) -> Answers:
    chunks = run(engine, a_task(PROMPTS[1], "drawn", temperature=0.9, seed=5, n=2))
    drawn: Answers = {f"drawn {index}": tokens(chunks, "drawn", index) for index in (0, 1)}
    return asked(engine) | drawn | joined_and_left(engine) | of_all_lengths(engine)


def likelihoods(chunks: list[Chunk], request: str) -> list[float]:
    return [
        number
        for chunk in chunks
        if isinstance(chunk, Tokens) and chunk.request == request
        for token in chunk.logprobs or ()
        for number in (token.logprob, *token.top_logprobs)
    ]


@pytest.mark.timeout(300)
def test_two_pairs_are_one(tmp_path: Path) -> None:
    qwen = make_random("qwen3", tmp_path / "qwen3", layers=2)
    require_equal(4, [Job(qwen, "hybrid", (1, 1, 1, 1))], asked)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("architecture", HYBRIDS)
def test_two_pairs_are_one_whatever_the_architecture(architecture: str, tmp_path: Path) -> None:
    folder = make_random(architecture, tmp_path / architecture, layers=4)
    require_equal(4, [Job(folder, "hybrid", (1, 1, 3, 3))], asked_much)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_pairs_are_one(tmp_path: Path) -> None:
    llama = make_random("llama", tmp_path / "llama", layers=4)
    require_equal(6, [Job(llama, "hybrid", (1, 1, 2, 2, 1, 1))], asked)


def test_what_is_tried_here_may_be_hybrid() -> None:
    assert all("hybrid" in splittable(name) for name in HYBRIDS)
