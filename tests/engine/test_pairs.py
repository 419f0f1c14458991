"""Pipelines of pairs that share the heads of their layers answer as one process does, to the probabilities of their tokens."""

import multiprocessing
import re
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from actors.engine.port import Engine, EngineLoadError
from schemas.group import Seat
from schemas.model import Backend
from schemas.split import splittable
from tests.engine.architectures import make_random
from tests.engine.ranks import Answers, Job
from tests.engine.running import a_task, run, tokens
from tests.engine.test_shards import PROMPTS, TENSORS, joined_and_left, of_all_lengths, require_equal, weighed
from tests.ports import free_ports


def asked(engine: Engine, prompts: int = len(PROMPTS), most: int = 10) -> Answers:
    """Together, and one again with what is kept of it."""
    given = {f"r{at}": prompt for at, prompt in enumerate(PROMPTS[:prompts])}
    chunks = run(engine, *(a_task(given[name], name, max_tokens=most, logprobs=3) for name in given))
    chunks += run(engine, a_task(PROMPTS[1], "again", max_tokens=most, logprobs=3))
    return weighed(chunks, "again", *given)


def asked_much(engine: Engine) -> Answers:
    chunks = run(engine, a_task(PROMPTS[1], "drawn", temperature=0.9, seed=5, n=2))
    drawn: Answers = {f"drawn {index}": tokens(chunks, "drawn", index) for index in (0, 1)}
    return asked(engine) | drawn | joined_and_left(engine) | of_all_lengths(engine)


@pytest.mark.timeout(300)
def test_two_pairs_are_one(tmp_path: Path) -> None:
    qwen = make_random("qwen3", tmp_path / "qwen3", layers=2)
    require_equal(4, [Job(qwen, "hybrid", (1, 1, 1, 1))], asked)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("architecture", TENSORS)
def test_two_pairs_are_one_whatever_the_architecture(architecture: str, tmp_path: Path) -> None:
    folder = make_random(architecture, tmp_path / architecture, layers=4)
    require_equal(4, [Job(folder, "hybrid", (1, 1, 3, 3))], asked_much)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_three_pairs_are_one(tmp_path: Path) -> None:
    llama = make_random("llama", tmp_path / "llama", layers=4)
    require_equal(6, [Job(llama, "hybrid", (1, 1, 2, 2, 1, 1))], partial(asked, prompts=2, most=3))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_sums_of_pairs_are_equal_to_the_bit_and_may_be_larger_than_what_sockets_take() -> None:
    spawn = multiprocessing.get_context("spawn")
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(4))
    pipes = [spawn.Pipe(duplex=False) for _ in range(4)]
    ranks = [spawn.Process(target=add_up, args=(rank, addresses, pipes[rank][1])) for rank in range(4)]
    for rank in ranks:
        rank.start()
    try:
        assert all(pipe.poll(60) for pipe, _ in pipes), "they wait for each other"
        first, second, third, fourth = (pipe.recv_bytes() for pipe, _ in pipes)
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()
    assert first == second != third == fourth


def add_up(rank: int, addresses: tuple[str, ...], back: Connection) -> None:
    """32 MB of each rank, three times in one evaluation; sends back every thousandth number."""
    import mlx.core as mx

    from actors.engine.arrays import in_place
    from actors.engine.group import form
    from actors.engine.pairs import Pair

    pair = Pair(form(Seat(rank=rank, split="hybrid", addresses=addresses)))
    part = mx.random.normal((8 << 20,), key=mx.random.key(rank))
    for turn in range(3):
        part = pair.sum(part) * (0.3 + turn)
    back.send_bytes(in_place(part[::1000]).tobytes())


@pytest.mark.parametrize(
    ("layers", "backend", "reason"),
    [
        ((1, 1), "ring", "two pairs or more, not (1, 1)"),
        ((1, 2, 1, 2), "ring", "pairs of ranks with the same layers"),
        ((1, 1, 1, 1, 2), "ring", "pairs of ranks with the same layers"),
        ((1, 1, 1, 1), "jaccl", "hybrid splits need the backend `ring`"),
    ],
)
def test_what_are_no_pairs_is_refused(layers: tuple[int, ...], backend: Backend, reason: str) -> None:
    from actors.engine.group import Group
    from actors.engine.pairs import share_among_pairs

    nothing: Any = None
    addresses = ("127.0.0.1:1",) * len(layers)
    seat = Seat(rank=0, split="hybrid", addresses=addresses, layers=layers, backend=backend)
    with pytest.raises(EngineLoadError, match=re.escape(reason)):
        share_among_pairs(nothing, Group(seat, nothing))


def test_what_is_tried_here_may_be_hybrid() -> None:
    assert all("hybrid" in splittable(name) for name in TENSORS)
