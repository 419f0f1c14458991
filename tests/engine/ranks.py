"""Ranks of a group as processes of a test, without a bus: what rank 0 tells goes to the others by pipes."""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from actors.engine.lockstep import Following, Leading, RankEngine
from actors.engine.port import Engine
from schemas.group import Seat
from schemas.instance import Split
from tests.ports import free_ports

Answers = dict[str, Sequence[float]]
"""Tokens, or how likely they were; by what was asked."""
Script = Callable[[Engine], Answers]
"""What is asked of an engine, and what it answered; a function of a module."""
DEADLINE_S = 240.0


class Job(NamedTuple):
    """One model, served by the group; a pipeline's layers by rank."""

    folder: Path
    split: Split
    layers: tuple[int, ...] = ()
    batch_bytes: int | None = None


def play(size: int, jobs: Sequence[Job], script: Script) -> list[Answers]:
    """The answers to each job, as rank 0 gave them."""
    spawn = multiprocessing.get_context("spawn")
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(size))
    pipes = [spawn.Pipe(duplex=False) for _ in range(size)]  # the first brings the answers back
    told = [sender for _, sender in pipes[1:]]
    ranks = [spawn.Process(target=lead, args=(addresses, jobs, script, told, pipes[0][1]))]
    ranks += [
        spawn.Process(target=follow, args=(rank, addresses, jobs, pipes[rank][0])) for rank in range(1, size)
    ]
    for rank in ranks:
        rank.start()
    try:
        assert pipes[0][0].poll(DEADLINE_S), "rank 0 has not answered"
        return pipes[0][0].recv()
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def lead(
    addresses: tuple[str, ...],
    jobs: Sequence[Job],
    script: Script,
    others: list[Connection],
    back: Connection,
) -> None:
    make = maker(0, addresses)

    def tell(told: bytes) -> None:
        for other in others:
            other.send_bytes(told)

    answers: list[Answers] = []
    for job in jobs:
        engine = Leading(make(job), tell)
        engine.load(lambda _: None)
        engine.warm()
        answers.append(script(engine))
        engine.close()
        tell(b"")
    back.send(answers)


def follow(rank: int, addresses: tuple[str, ...], jobs: Sequence[Job], rounds: Connection) -> None:
    make = maker(rank, addresses)
    for job in jobs:
        engine = Following(lambda job=job: make(job))
        engine.load(lambda _: None)
        engine.warm()
        while told := rounds.recv_bytes():
            engine.follow(told)
            while not engine.idle:
                assert engine.step() == []
        engine.close()


def maker(rank: int, addresses: tuple[str, ...]) -> Callable[[Job], RankEngine]:
    """A process is in one group, once: here it serves several models, one after the other."""
    from msgspec.structs import replace

    from actors.engine.factory import Wanted, make_rank
    from tests.engine.running import ORIGIN

    formed = []

    def make(job: Job) -> RankEngine:
        seat = Seat(rank=rank, split=job.split, addresses=addresses, layers=job.layers)
        wanted = Wanted(engine="mlx", folder=job.folder, origin=ORIGIN, seat=seat)
        engine = make_rank(replace(wanted, batch_bytes=job.batch_bytes))
        from actors.engine import mlx_engine
        from actors.engine.group import Group, form
        from actors.engine.inlet import inlet_of

        def form_once(seat: Seat) -> Group:
            if not formed:
                formed.append(form(seat).ring)
            return Group(seat, formed[0], inlet_of(seat))

        mlx_engine.form = form_once if mlx_engine.form is form else mlx_engine.form
        return engine

    return make
