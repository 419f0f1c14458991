"""Between taking a task out of the queue and its engine lie milliseconds, in which a runner must not miss a word."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from actors.runner.job import RunnerJob
from actors.runner.runner import Runner, connect
from bus.bus import Bus
from bus.errors import BusAway
from schemas.chunks import Failed
from schemas.ids import RequestId
from tests.engine.running import a_task, reasons, tokens
from tests.runner.client import Client

TASK = a_task(max_tokens=1500)


class Owning:
    """A runner in this process, that owns up to a task for as long as it is told to."""

    def __init__(self, job: RunnerJob, bus: Bus) -> None:
        self.bus = bus
        self.runner = Runner(job, bus)
        self.life = asyncio.create_task(self.runner.run())
        self.begun, self.heard = asyncio.Event(), asyncio.Event()

    async def answers(self, _timeout_s: float) -> bool:
        self.begun.set()
        return await self.heard.wait()

    async def until_cancelled(self, request: RequestId) -> None:
        async with asyncio.timeout(30):
            while not any(each.cancels for each in self.runner._tasks.of(request)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the pause: nothing tells that a cancel was heard


@pytest.fixture
async def owning(
    a_job: Callable[..., RunnerJob], client: Client, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Owning]:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    job = a_job(engine="simulated")
    bus = await connect(job)
    owning = Owning(job, bus)
    monkeypatch.setattr(bus, "answers", owning.answers)
    await client.until_status("ready")
    yield owning
    owning.life.cancel()
    with suppress(asyncio.CancelledError):
        await owning.life
    await bus.close()


async def test_a_cancel_in_between_is_heard(owning: Owning, client: Client, bus: Bus) -> None:
    await bus.queue.put(TASK, ttl_s=60)
    await owning.begun.wait()
    await client.cancel(TASK)
    await owning.until_cancelled(TASK.request)
    owning.heard.set()
    assert reasons(await client.until_ended(TASK.request)) == ["cancelled"]


async def test_who_is_told_to_leave_in_between_says_so(owning: Owning, client: Client, bus: Bus) -> None:
    await bus.queue.put(TASK, ttl_s=60)
    await owning.begun.wait()
    owning.life.cancel()
    last = (await client.until_ended(TASK.request))[-1]
    assert isinstance(last, Failed) and last.code == "runner_lost"


async def test_a_bus_that_cannot_be_told_loses_nothing(
    owning: Owning, client: Client, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, refused = owning.bus.post, list[str]()
    out = bus.subjects.out(TASK.api, TASK.request)

    def full(subject: str, payload: bytes) -> None:
        if subject == out and not refused:
            refused.append(subject)
            raise BusAway("too much waits to be sent")
        whole(subject, payload)

    monkeypatch.setattr(owning.bus, "post", full)
    owning.heard.set()
    await bus.queue.put(TASK, ttl_s=60)
    assert len(tokens(await client.until_ended(TASK.request))) == TASK.max_tokens
    assert refused
