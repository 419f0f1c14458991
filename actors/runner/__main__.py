"""`python -m actors.runner [--spare]`: reads its job from stdin, lives until its worker or the cluster ends it."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec
import uvloop

from actors.engine.factory import import_mlx
from actors.engine.port import EngineLoadError
from actors.journal import keep_journal
from actors.runner.follower import Follower
from actors.runner.group_life import GroupBroken
from actors.runner.job import SPARE, LastWords, RunnerJob, Waiting, Words
from actors.runner.process_name import take_name
from actors.runner.runner import Runner, connect
from actors.runner.voice import Voice
from bus.errors import BusError
from bus.tracing import Tracing

CLOSE_S = 1.0
"""How long saying goodbye to the bus may take; seconds."""
STDOUT, STDERR = 1, 2
FORESEEN = (EngineLoadError, BusError, GroupBroken)


def main() -> None:
    """Ends the process without finalisation: the engine's thread may be deep in a step."""
    words = keep_stdout()
    try:
        if SPARE in sys.argv:
            make_ready(words)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            leave(words, runner.run(live(words)))
    except BaseException as error:
        say(words, last_words(error))
        raise


def make_ready(words: BinaryIO) -> None:
    """Before the job is known; where MLX cannot be imported, a job that asks for it says so."""
    take_name("troupe-spare")
    with suppress(EngineLoadError):
        import_mlx()
    say(words, Waiting())


async def live(words: BinaryIO) -> int:
    """The exit code; what is foreseen ends in last words, the rest is raised."""
    voice = Voice()
    job = voice.job()
    take_name("troupe-runner")
    keep_journal(job.log_level, "json")
    listen(voice)
    life = asyncio.ensure_future(run(job, voice))
    ended = asyncio.ensure_future(voice.ended.wait())
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


async def run(job: RunnerJob, voice: Voice) -> None:
    bus = await connect(job)
    tracing = Tracing.towards(job.otlp_endpoint, "troupe-runner", job.instance)
    try:
        if job.rank:
            await Follower(job, bus).run()
        else:
            runner = Runner(job, bus, tracing)
            voice.to(runner.stand)
            await runner.run()
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


def listen(voice: Voice) -> None:
    """SIGTERM and SIGINT end a runner as its worker's silence does."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, voice.ended.set)
    voice.listen()


def keep_stdout() -> BinaryIO:
    """stdout for last words alone; whatever libraries print goes to stderr."""
    words = os.fdopen(os.dup(STDOUT), "wb", buffering=0)
    os.dup2(STDERR, STDOUT)
    return words


def say(words: BinaryIO, said: Words) -> None:
    with suppress(OSError):
        words.write(msgspec.json.encode(said) + b"\n")


def leave(words: BinaryIO, code: int) -> None:
    words.close()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
