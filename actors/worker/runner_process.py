"""A runner's process as its worker sees it: started, listened to, stopped, and its last words."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import structlog
from msgspec import Struct

from actors.runner.job import LastWords, RunnerJob, Standing, Words
from actors.settings import without_settings
from actors.worker.runner_log import RunnerLog
from schemas.instance import Fate

log = structlog.get_logger()

TAIL_LINES = 30
LONGEST_LINE = 2000
DEAF = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
_words = msgspec.json.Decoder[Words](Words).decode


class Ending(Struct, frozen=True):
    """Why a runner is no more."""

    reason: str
    retryable: bool
    diagnostics: str
    fate: Fate = ""


class RunnerProcess:
    """One `python -m actors.runner`; its stderr goes to a log file once it has a job, and its last lines are kept."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._kept: RunnerLog | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._waits = False
        self._last_words: LastWords | None = None
        self._listeners = asyncio.gather(self._read_errors(), self._read_words())

    @classmethod
    async def start(cls, *arguments: str) -> "RunnerProcess":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "actors.runner",
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            env=without_settings(),
        )
        return cls(process)

    async def begin(self, job: RunnerJob, log_file: Path) -> None:
        """The job goes in by stdin, so that no credentials stand in the list of processes."""
        self._kept = RunnerLog(log_file)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        with suppress(ConnectionError):  # it died at once: `ended` tells why
            await self._process.stdin.drain()

    @property
    def is_waiting(self) -> bool:
        """A spare that would take up a job at once; one that is stopped would not."""
        with suppress(psutil.Error):
            return self._waits and psutil.Process(self.pid).status() not in DEAF
        return False

    def tell(self, standing: Standing) -> None:
        """What it may take from here on; one that has ended need not know."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(msgspec.json.encode(standing) + b"\n")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> Ending:
        """Wait until it is gone."""
        status = await self._process.wait()
        await asyncio.shield(self._listeners)
        diagnostics = "\n".join(self._tail)
        if self._last_words is not None:
            words = self._last_words
            return Ending(words.failed, words.retryable, diagnostics, words.fate)
        return Ending(_told(status), True, diagnostics, fate_of(status))

    async def stop(self, deadline_s: float) -> None:
        """SIGTERM, and SIGKILL when it is not gone after `deadline_s` seconds."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(deadline_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        await self._process.wait()
        await asyncio.shield(self._listeners)

    def kill(self) -> None:
        """End it now, also when it is stopped or stuck in a kernel of the accelerator."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in _lines(self._process.stderr):
            if self._kept is not None:
                self._kept.add(line)
            self._tail.append(line.decode(errors="replace")[:LONGEST_LINE])

    async def _read_words(self) -> None:
        assert self._process.stdout is not None
        async for line in _lines(self._process.stdout):
            with suppress(msgspec.MsgspecError):
                words = _words(line)
                if isinstance(words, LastWords):
                    self._last_words = words
                else:
                    self._waits = True
                    log.debug("spare.waits", pid=self.pid)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length, cut at the reader's limit rather than refused."""
    rest = b""
    while block := await stream.read(65_536):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > 65_536:
            yield rest
            rest = b""
    if rest:
        yield rest


def fate_of(status: int) -> Fate:
    """By the exit status: 0 is how a runner leaves that was told to."""
    if status in (0, -signal.SIGTERM):
        return "left"
    return "killed" if status == -signal.SIGKILL else "fell"


def _told(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the runner was killed by {name}{hint}"
    return f"the runner ended by itself with exit status {status}"
