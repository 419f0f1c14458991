"""A runner's process, as its worker starts it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import msgspec

from actors.runner.job import LastWords, RunnerJob

ROOT = Path(__file__).parents[2]
EXIT_S = 20.0


class RunningProcess:
    """`python -m actors.runner`, with its job on stdin."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, job: RunnerJob) -> "RunningProcess":
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "actors.runner", stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT
        )
        running = cls(process)
        running.say(msgspec.json.encode(job) + b"\n")
        return running

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def close_stdin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def ended(self) -> tuple[int, list[LastWords], str]:
        """Exit code, last words, stderr."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(EXIT_S):
            out, err = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            code = await self.process.wait()
        return code, [msgspec.json.decode(line, type=LastWords) for line in out.splitlines()], err.decode()

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()
