"""`python -m actors.runner`: reads its job from stdin, lives until its worker or the cluster ends it."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec
import uvloop

from actors.engine.port import EngineLoadError
from actors.journal import keep_journal
from actors.runner.follower import Follower
from actors.runner.group_life import GroupBroken
from actors.runner.job import LastWords, RunnerJob
from actors.runner.runner import Runner, connect
from bus.errors import BusError
from bus.tracing import Tracing

CLOSE_S = 1.0
"""How long saying goodbye to the bus may take; seconds."""
STDIN, STDOUT, STDERR = 0, 1, 2
FORESEEN = (EngineLoadError, BusError, GroupBroken)


def main() -> None:
    """Ends the process without finalisation: the engine's thread may be deep in a step."""
    words = keep_stdout()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(live(read_job(), words))
            leave(words, code)
    except BaseException as error:
        say(words, last_words(error))
        raise


async def live(job: RunnerJob, words: BinaryIO) -> int:
    """The exit code; what is foreseen ends in last words, the rest is raised."""
    keep_journal(job.log_level, "json")
    leaving = listen_for_the_end()
    life = asyncio.ensure_future(run(job))
    ended = asyncio.ensure_future(leaving.wait())
    await asyncio.wait((life, ended), return_when=asyncio.FIRST_COMPLETED)
    if not life.done():
        life.cancel()
        await asyncio.wait((life,), timeout=CLOSE_S)
        return 0
    try:
        await life
    except* FORESEEN as errors:
        last = last_words(errors)
        say(words, last)
        sys.stderr.write(f"{last.failed}\n")
    return 1


async def run(job: RunnerJob) -> None:
    bus = await connect(job)
    tracing = Tracing.towards(job.otlp_endpoint, "troupe-runner", job.instance)
    try:
        await (Follower(job, bus) if job.rank else Runner(job, bus, tracing)).run()
    finally:
        await tracing.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(bus.close(), CLOSE_S)


def last_words(error: BaseException) -> LastWords:
    """Of several errors the first: any one of them ends a runner."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, EngineLoadError):
        return LastWords(failed=error.reason, retryable=error.retryable)
    if isinstance(error, BusError):
        return LastWords(failed=str(error), retryable=True)
    if isinstance(error, GroupBroken):  # nobody else has said why by now: it was no fault of what ran here
        return LastWords(failed=str(error), retryable=True, fate="")
    return LastWords(failed=f"the runner failed: {type(error).__name__}: {error}", retryable=True)


def listen_for_the_end() -> asyncio.Event:
    """Set by SIGTERM, SIGINT, or when stdin closes: the worker that held it is gone."""
    loop, leaving = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leaving.set)

    def read() -> None:
        if not os.read(STDIN, 4096):
            loop.remove_reader(STDIN)
            leaving.set()

    loop.add_reader(STDIN, read)
    return leaving


def read_job() -> RunnerJob:
    """The first line of stdin; read without a buffer, so that the end of stdin is still to be seen."""
    line = b""
    while not line.endswith(b"\n"):
        block = os.read(STDIN, 65_536)
        if not block:
            raise EOFError("stdin ended before the runner was told its job")
        line += block
    return msgspec.json.decode(line, type=RunnerJob)


def keep_stdout() -> BinaryIO:
    """stdout for last words alone; whatever libraries print goes to stderr."""
    words = os.fdopen(os.dup(STDOUT), "wb", buffering=0)
    os.dup2(STDERR, STDOUT)
    return words


def say(words: BinaryIO, last: LastWords) -> None:
    with suppress(OSError):
        words.write(msgspec.json.encode(last) + b"\n")


def leave(words: BinaryIO, code: int) -> None:
    words.close()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
