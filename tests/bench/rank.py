"""One rank of an engine as a program, without a bus: `python -m tests.bench.rank`; a Job on stdin, its Pace on stdout.

What rank 0 tells goes to the others over sockets in the file system, which lead from one network namespace to another.
"""

import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct

from actors.engine.factory import Wanted, make_rank
from actors.engine.lockstep import Following, Leading
from actors.engine.port import Engine
from schemas.chunks import Tokens
from schemas.group import Seat
from tests.engine.running import ORIGIN, a_task

PATIENCE_S = 60.0


class Job(Struct, frozen=True):
    """`seat` None: the whole model in one process."""

    folder: str
    rounds: str
    """Where rank n listens: this path and the number."""
    seat: Seat | None
    prompt: int
    """Tokens of each prompt."""
    tokens: int
    answers: int
    silent: bool = False
    """It talks to no other rank, and is told nothing: see `tests/bench/silence.py`."""


class Spoken(Struct, frozen=True):
    """One answer; seconds."""

    first_s: float
    token_s: float


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    wanted = Wanted(engine="mlx", folder=Path(job.folder), origin=ORIGIN, seat=job.seat)
    if job.silent and job.seat is not None:
        return tell(job, silenced(wanted, job.seat))
    if job.seat is not None and job.seat.rank:
        return follow(wanted, f"{job.rounds}{job.seat.rank}")
    others = [] if job.seat is None else [call(job.rounds, rank) for rank in range(1, job.seat.size)]

    def tell_others(told: bytes) -> None:
        for other in others:
            other.send_bytes(told)

    alone = make_rank(wanted)
    tell(job, alone if job.seat is None else Leading(alone, tell_others))
    for other in others:
        other.send_bytes(b"")
    return None


def silenced(wanted: Wanted, seat: Seat) -> Engine:
    engine = make_rank(wanted)  # MLX is there from here on
    from tests.bench.silence import silence

    silence(seat)
    return engine


def tell(job: Job, engine: Engine) -> None:
    engine.load(lambda _: None)
    engine.warm()
    spoken = [speak(engine, job, number) for number in range(job.answers)]
    sys.stdout.buffer.write(msgspec.json.encode(spoken))
    sys.stdout.flush()


def call(rounds: str, rank: int) -> Connection:
    """Whoever listens there may need a moment to come."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Client(f"{rounds}{rank}")
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def follow(wanted: Wanted, path: str) -> None:
    with Listener(path) as listener, listener.accept() as told:
        engine = Following(lambda: make_rank(wanted))
        engine.load(lambda _: None)
        engine.warm()
        for one in rounds_of(told):
            engine.follow(one)
            while not engine.idle:
                engine.step()


def rounds_of(told: Connection) -> Iterator[bytes]:
    while one := told.recv_bytes():
        yield one


def speak(engine: Engine, job: Job, number: int) -> Spoken:
    prompt = [2 + (7 * at + 13 * number) % 1000 for at in range(job.prompt)]
    began, arrived = perf_counter(), list[float]()
    engine.add(a_task(prompt, request=f"r{number}", max_tokens=job.tokens))
    while not engine.idle:
        chunks = engine.step()
        arrived += [perf_counter() for chunk in chunks if isinstance(chunk, Tokens)]
    return Spoken(arrived[0] - began, (arrived[-1] - arrived[0]) / (len(arrived) - 1))


if __name__ == "__main__":
    main()
