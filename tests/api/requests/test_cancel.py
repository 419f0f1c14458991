"""`POST /v1/cancel/{request}`: from any node, while a request runs, waits, or is no more."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bus.bus import Bus
from schemas.task import Task
from tests.api.stage import MODEL, Actor, Stage, api_beside, chat, ids_of, says, staged
from tests.conftest import ConnectBus

PATH = "/v1/chat/completions"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


async def speaks_until_cancelled(actor: Actor, task: Task) -> None:
    """As an engine does: a cancel ends the sequence, and with it the request."""
    await actor.start(task)
    await actor.tokens(task, ids_of("hello"))
    while (await actor.cancelled.get()).request != task.request:
        pass
    await actor.end(task, len(ids_of("hello")), "cancelled")


async def test_a_stream_is_told(stage: Stage) -> None:
    lines: list[str] = []
    async with (
        stage.actor(speaks_until_cancelled),
        stage.http.stream("POST", PATH, json=chat(stream=True)) as response,
    ):
        async for line in response.aiter_lines():
            lines.append(line)
            if "hello" in line:
                answer = await stage.http.post(f"/v1/cancel/{response.headers['x-request-id']}")
                assert (answer.status_code, answer.json()["cancelled"]) == (200, True)
    error, done = [line for line in lines if line][-2:]
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "cancelled"
    assert done == "data: [DONE]"


async def test_from_another_node_and_by_the_name_of_the_answer(stage: Stage, connect_bus: ConnectBus) -> None:
    async with api_beside(await connect_bus("n2")) as other, stage.actor(speaks_until_cancelled) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        async with asyncio.timeout(5):
            await actor.began.wait()
        answer = await other.post(f"/v1/cancel/chatcmpl-{actor.tasks[0].request}")
        assert answer.status_code == 200
        cancelled = await asking
    assert (cancelled.status_code, cancelled.json()["error"]["code"]) == (499, "cancelled")


async def test_what_waits_is_taken_out_of_the_queue(stage: Stage) -> None:
    async with stage.bus.queue.pulls(MODEL) as pulls:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        async with asyncio.timeout(5):
            pulled = await pulls.next()
            await pulled.give_back()
        assert (await stage.http.post(f"/v1/cancel/{pulled.task.request}")).status_code == 200
        assert (await asking).status_code == 499


async def test_nobody_knows_it(stage: Stage) -> None:
    async with stage.actor(says("x")) as actor:
        await stage.http.post(PATH, json=chat())
        for name in (actor.tasks[0].request, "never", "", "a/b", "x" * 5000, "é"):
            answer = await stage.http.post(f"/v1/cancel/{name}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
