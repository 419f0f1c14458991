"""Machines of their own, as far as two cores allow: a network namespace, one core, and no waiting for other programs.

A rank computes with as many threads as it has cores: one. Where this process may run in real time its ranks do, so that
whatever else runs here takes nothing from them.
"""

import subprocess
import sys
from collections.abc import Sequence
from secrets import token_hex
from subprocess import PIPE, Popen

import msgspec
from msgspec import Struct

from actors.engine.report import EngineReport
from actors.links.yardstick import Measured
from schemas.group import Seat
from schemas.ids import NodeId
from schemas.instance import Split
from schemas.link import Link
from tests.bench.rank import Job, Spoken
from tests.lan import Machine
from tests.nodes import HERE

PATIENCE_S = 150.0
PORT = 7100


def real_time() -> tuple[str, ...]:
    """A command that lets another one run so; nothing where that is forbidden."""
    hurry = ("chrt", "-r", "1")
    try:
        return (
            hurry
            if subprocess.run((*hurry, "true"), check=False, capture_output=True).returncode == 0
            else ()
        )
    except FileNotFoundError:
        return ()


class Place(Struct, frozen=True):
    """A machine with one core."""

    machine: Machine
    core: int
    hurry: tuple[str, ...]

    @property
    def node(self) -> NodeId:
        return NodeId(self.machine.address)

    def start(self, program: str, *words: str) -> Popen[bytes]:
        within = (*self.hurry, "taskset", "-c", str(self.core), *self.machine.within)
        return Popen((*within, sys.executable, "-m", program, *words), stdin=PIPE, stdout=PIPE, cwd=HERE)

    def ask(self, program: str, *words: str) -> bytes:
        with self.start(program, *words) as process:
            return process.communicate(timeout=PATIENCE_S)[0]

    def engine(self) -> EngineReport:
        """As a node that starts there finds it."""
        return msgspec.json.decode(self.ask("actors.engine.report", "--measure"), type=EngineReport)

    def link(self, other: "Place") -> Link:
        """As this node's surveyor measures it."""
        waiting = other.start("tests.bench.way", other.machine.address)
        assert waiting.stdout is not None
        try:
            port = waiting.stdout.readline().decode().strip()
            found = msgspec.json.decode(
                self.ask("tests.bench.way", other.machine.address, port), type=Measured
            )
        finally:
            waiting.kill()
            waiting.communicate()
        return Link(
            from_node=self.node,
            to_node=other.node,
            latency_s=found.latency_s,
            bandwidth_bytes_s=found.bandwidth_bytes_s,
        )


def speak(places: Sequence[Place], split: Split, layers: tuple[int, ...], job: Job) -> list[Spoken]:
    """The answers of a model on these machines; of a pipeline the first one has the first layers."""
    ranks = places[::-1] if split == "pipeline" else places
    addresses = tuple(f"{place.machine.address}:{PORT + at}" for at, place in enumerate(ranks))
    rounds = f"{job.rounds}/{token_hex(4)}-"
    started: list[Popen[bytes]] = []
    try:
        for rank, place in enumerate(ranks):
            seat = (
                None
                if split == "whole"
                else Seat(rank=rank, split=split, addresses=addresses, layers=layers[::-1])
            )
            started.append(place.start("tests.bench.rank"))
            pipe = started[-1].stdin
            assert pipe is not None
            pipe.write(msgspec.json.encode(msgspec.structs.replace(job, rounds=rounds, seat=seat)))
            pipe.close()
        return msgspec.json.decode(_answer(started[0]), type=list[Spoken])
    finally:
        for process in started:
            process.kill()
            process.wait()


def _answer(rank: Popen[bytes]) -> bytes:
    assert rank.stdout is not None
    return rank.stdout.read()
