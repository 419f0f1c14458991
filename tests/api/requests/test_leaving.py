"""Who leaves in the middle of a move, begins late, or is heard twice: nobody else pays for it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack

import pytest

from api.generation import Pieces
from api.openai.together import together
from bus.bus import Bus
from schemas.chunks import Failed
from schemas.ids import InstanceId
from schemas.refused import Refused
from schemas.task import Accepted, OfferAnswer, Task
from tests.api.requests.test_migration import BUSY, PATH, REACHES, TEXT, cut, fail, far, goes_on, mend
from tests.api.stage import NODE, Actor, Stage, chat, says, staged, stalls
from tests.relay import Relay

__all__ = ["far"]


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus, offer_timeout_s=20.0) as stage:
        yield stage


class Slow:
    """An instance that has an offer of a second attempt, and answers when it may."""

    def __init__(self, verdict: OfferAnswer) -> None:
        self.offered = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._verdict = verdict

    async def __call__(self, task: Task) -> OfferAnswer:
        if task.attempt == 1:
            return BUSY
        self.offered.set()
        await self.may_answer.wait()
        return self._verdict


TAKEN = Accepted(instance=InstanceId("second"), node=NODE, attempt=1)


@pytest.mark.parametrize("verdict", [TAKEN, Refused("busy", "full")], ids=["taken", "refused"])
async def test_a_client_that_leaves_while_its_request_moves(stage: Stage, verdict: OfferAnswer) -> None:
    slow = Slow(verdict)
    first = Actor(stage.bus, await stage.place("first"), goes_on(TEXT, REACHES))
    await stage.place("second")
    subject = stage.bus.subjects.run(InstanceId("second"))
    async with first.on_stage(), stage.bus.serving(subject, Task, slow, packed=True), asyncio.timeout(30):
        await stage.bus.connection.client.flush()
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await first.played.wait()
        first.answer = BUSY
        await fail(stage)
        await slow.offered.wait()
        asking.cancel()
        while (await first.cancelled.get()).attempt:
            pass  # the one that ends the request as a whole has no attempt
        slow.may_answer.set()
        if isinstance(verdict, Accepted):  # whoever took it meanwhile is told once more
            assert (await first.cancelled.get()).request == first.tasks[0].request
        third = Actor(stage.bus, await stage.place("third"), says("hi"))
        async with third.on_stage():
            answer = await stage.http.post(PATH, json=chat())
            assert answer.json()["choices"][0]["message"]["content"] == "hi"


async def test_an_attempt_that_begins_when_it_is_over_is_stopped(stage: Stage) -> None:
    async with stage.actor(stalls("he")) as actor, asyncio.timeout(30):
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await actor.played.wait()
        (first,) = actor.tasks
        actor.played.clear()
        await actor.send(first, Failed(first.request, 1, "engine_failed", "a kernel broke"))
        await actor.played.wait()
        while not actor.cancelled.empty():
            actor.cancelled.get_nowait()
        await actor.start(first)
        late = await actor.cancelled.get()
        assert (late.request, late.attempt) == (first.request, 1)
        asking.cancel()


async def test_an_offer_that_a_cut_line_leaves_open_is_no_second_taker_of_one_attempt(
    far: tuple[Stage, Bus, Relay],
) -> None:
    stage, near, relay = far
    taken: list[int] = []
    offered, again = asyncio.Event(), asyncio.Event()

    async def take(task: Task) -> OfferAnswer:
        if task.attempt == 1:
            return BUSY
        taken.append(task.attempt)
        if len(taken) == 1:
            offered.set()
            await again.wait()
        else:
            again.set()
        return TAKEN

    first = Actor(near, await stage.place("first"), goes_on(TEXT, REACHES))
    async with first.on_stage(), AsyncExitStack() as stack, asyncio.timeout(60):
        for name in ("second", "third"):
            subject = near.subjects.run(await stage.place(name))
            await stack.enter_async_context(near.serving(subject, Task, take, packed=True))
        await near.connection.client.flush()
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await first.played.wait()
        first.answer = BUSY
        await fail(stage)
        await offered.wait()
        await cut(stage.bus, relay)
        await mend(stage.bus, relay)
        await again.wait()
        assert len(set(taken)) == len(taken)
        asking.cancel()


async def test_what_nobody_foresaw_in_one_of_several_prompts_is_raised_and_not_waited_for() -> None:
    async def breaks() -> AsyncGenerator[Pieces]:
        yield Pieces([], "x")
        raise KeyError("unforeseen")

    async def ends() -> AsyncGenerator[Pieces]:
        yield Pieces([], "y", True)

    async def read() -> None:
        async for _ in together([breaks(), ends()], 1):
            pass

    with pytest.raises(KeyError, match="unforeseen"):
        await asyncio.wait_for(read(), 10)
