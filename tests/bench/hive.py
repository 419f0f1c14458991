"""The processes that simulate nodes: those that live, and those that are to die together."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from math import ceil

import msgspec
from msgspec import Struct

from schemas.ids import NodeId
from tests.bench.swarm import Job, Lag, name_of

MOST_IN_A_PROCESS = 300
STARTED_S = 180.0


class Bees(Struct, frozen=True):
    """One process and its nodes."""

    process: Process
    nodes: set[NodeId]

    async def heard(self) -> bytes:
        assert self.process.stdout is not None
        async with asyncio.timeout(STARTED_S):
            line = await self.process.stdout.readline()
        assert line, "a process of simulated nodes has ended"
        return line

    async def lag(self) -> Lag:
        assert self.process.stdin is not None
        self.process.stdin.write(b"lag\n")
        return msgspec.json.decode(await self.heard(), type=Lag)


class Hive:
    """All simulated nodes of a bench."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._bees: list[Bees] = []
        self.dead: set[NodeId] = set()

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator["Hive"]:
        hive = cls(url)
        try:
            yield hive
        finally:
            for bees in hive._bees:
                with suppress(ProcessLookupError):
                    bees.process.kill()
                await bees.process.wait()

    async def grow(self, nodes: int, views: int) -> None:
        """Start so many nodes, of which so many follow the log; a tenth in a process of its own, the first one."""
        doomed = nodes // 10
        others = ceil((nodes - doomed) / MOST_IN_A_PROCESS)
        bounds = [0, *(doomed + (nodes - doomed) * each // others for each in range(others + 1))]
        share = max(1, views // (len(bounds) - 1))
        self._bees = [
            await self._start(
                Job(url=self._url, first=first, count=end - first, views=min(share, end - first))
            )
            for first, end in pairwise(bounds)
        ]
        await asyncio.gather(*(bees.heard() for bees in self._bees))

    async def _start(self, job: Job) -> Bees:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.swarm", stdin=PIPE, stdout=PIPE
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        return Bees(process, {name_of(number) for number in range(job.first, job.first + job.count)})

    async def kill(self) -> set[NodeId]:
        """kill -9 of the doomed."""
        doomed = self._bees.pop(0)
        doomed.process.kill()
        await doomed.process.wait()
        self.dead |= doomed.nodes
        return doomed.nodes

    async def lag(self) -> str:
        """How late the worst process was since it was asked last."""
        lags = await asyncio.gather(*(bees.lag() for bees in self._bees))
        worst = max(lags, key=lambda one: one.most_s)
        return f"was late by p99 {max(one.p99_s for one in lags) * 1e3:.0f} ms, at most {worst.most_s * 1e3:.0f} ms"
