"""Prompts too large for a message: on the bus while somebody waits, put there again for each attempt, then deleted."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.js.api import StreamConfig

from bus.bus import Bus
from bus.streams import Streams
from schemas.chunks import Failed
from schemas.task import Task
from tests.api.stage import Actor, Stage, chat, ids_of, says, staged

PATH = "/v1/chat/completions"
WORDS = "the quick brown fox jumps over the lazy dog"


@pytest.fixture
async def stage(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("api.requests.payloads.MAX_INLINE_BYTES", 8)
    async with staged(bus) as stage:
        yield stage


async def deleted(bus: Bus, payload: str) -> None:
    async with asyncio.timeout(20):
        while await bus.payloads.has(payload):
            pass


async def test_a_payload_is_there_for_each_attempt_and_for_nobody_afterwards(stage: Stage) -> None:
    prompts: list[bytes] = []

    async def play(actor: Actor, task: Task) -> None:
        assert task.prompt == b"" and task.payload
        prompts.append(await actor.bus.payloads.get(task.payload))
        if task.attempt == 1:
            await actor.bus.payloads.delete(task.payload)  # it ran out, say
            await actor.send(task, Failed(task.request, 1, "runner_lost", "gone"))
        else:
            await says("well")(actor, task)

    async with stage.actor(play) as actor:
        response = await stage.http.post(PATH, json=chat(WORDS))
        assert response.json()["choices"][0]["message"]["content"] == "well"
    assert [task.attempt for task in actor.tasks] == [1, 2]
    assert prompts[0] == prompts[1] and len(prompts[0]) >= 4 * len(ids_of(WORDS))
    await deleted(stage.bus, actor.tasks[0].payload)


async def test_who_leaves_takes_the_payload_along(stage: Stage) -> None:
    begun = asyncio.Event()

    async def play(_actor: Actor, _task: Task) -> None:
        begun.set()

    async with stage.actor(play) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat(WORDS)))
        await begun.wait()
        assert await stage.bus.payloads.has(actor.tasks[0].payload)
        asking.cancel()
        await deleted(stage.bus, actor.tasks[0].payload)


async def test_a_full_store_is_an_answer(stage: Stage) -> None:
    jetstream = stage.bus.connection.jetstream
    name = f"OBJ_{Streams(stage.bus.cluster).payloads}"
    config = (await jetstream.stream_info(name)).config
    assert config.max_bytes and config.max_bytes > 0, "it is bounded"
    full: StreamConfig = config.evolve(max_bytes=64)
    await jetstream.update_stream(full)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
    async with stage.actor(says("x")) as actor:
        response = await stage.http.post(PATH, json=chat(WORDS))
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (429, "busy") and "no room" in error["message"]
        assert actor.tasks == []
