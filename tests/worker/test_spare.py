"""A spare: a real runner process that waits for its job, and what becomes of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from actors.runner.job import RunnerJob
from actors.worker.spare import Spare
from bus.server import Server
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import ModelSpec
from tests.until import until

NODE = NodeId("n1")


@asynccontextmanager
async def kept(*, wanted: bool = True) -> AsyncIterator[Spare]:
    spare = Spare(NODE, wanted=wanted, calm_s=0.01)
    running = asyncio.create_task(spare.run())
    try:
        yield spare
    finally:
        running.cancel()
        await asyncio.wait([running])


async def waiting(spare: Spare, besides: int = 0) -> int:
    """The pid of the spare that waits, once it is another one than `besides`."""
    await until(lambda: bool((one := spare.process) and one.pid != besides and one.is_waiting))
    assert spare.process is not None
    return spare.process.pid


async def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_the_next_runner_is_the_one_that_waited(nats_server: Server, tmp_path: Path) -> None:
    """It has all that it needs by then, does what it is told, and another one waits when nobody starts any more."""
    job = RunnerJob(
        nats_url=nats_server.url,
        cluster="troupe",
        node=NODE,
        instance=InstanceId("i1"),
        attempt=1,
        spec=ModelSpec(id=ModelId("m"), source="x"),
        path=str(tmp_path / "nothing"),
    )
    async with kept() as spare:
        pid = await waiting(spare)
        taken = await spare.take()
        assert taken.pid == pid
        assert "libmlx" in Path(f"/proc/{pid}/maps").read_text()
        await taken.begin(job, tmp_path / "runner.log")
        ending = await taken.ended()
        assert str(tmp_path / "nothing") in ending.reason and not ending.retryable
        assert "runner.status" in (tmp_path / "runner.log").read_text()
        assert spare.process is None
        spare.note(starting=False)
        await waiting(spare, besides=pid)


async def test_one_that_is_killed_is_replaced() -> None:
    async with kept() as spare:
        pid = await waiting(spare)
        os.kill(pid, signal.SIGKILL)
        again = await waiting(spare, besides=pid)
    assert is_gone(again)


async def test_one_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends nobody: a machine without room for one more process has runners that serve."""
    with monkeypatch.context() as patched, capture_logs() as said:
        patched.setattr(sys, "executable", "/nowhere/python")
        async with kept() as spare:
            await until(lambda: "spare.missing" in [line["event"] for line in said])
            patched.undo()
            await waiting(spare)


async def given_way(spare: Spare, pid: int) -> None:
    """A runner starts, and it is not the process `pid`, which ends."""
    runner = await spare.take()
    assert runner.pid != pid
    await until(lambda: is_gone(pid))
    runner.kill()
    await runner.ended()


async def test_one_that_is_stopped_holds_nobody_up() -> None:
    async with kept() as spare:
        pid = await waiting(spare)
        await stop(pid)
        await given_way(spare, pid)


async def test_one_that_is_only_being_made_gives_way() -> None:
    async with kept() as spare:
        await until(lambda: spare.process is not None)
        assert spare.process is not None
        pid = spare.process.pid
        await stop(pid)  # it will not be ready before the runner is
        await given_way(spare, pid)


async def test_nobody_waits_where_none_is_wanted() -> None:
    async with kept(wanted=False) as spare:
        assert spare.process is None
        runner = await spare.take()
        runner.kill()
        await runner.ended()
