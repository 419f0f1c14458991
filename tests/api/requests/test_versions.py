"""A model is changed while requests are on their way: nobody's answer goes on with other weights."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from bus.bus import Bus
from schemas.commands import Answer, DemandModel, Done
from schemas.events import InstancePlaced, InstanceRetired, ModelDescribed, ModelDesired
from schemas.ids import InstanceId
from schemas.instance import Shard
from schemas.refused import Refused
from schemas.task import Task
from schemas.version import version_of
from tests.api.stage import MODEL, NODE, Actor, Stage, card, chat, ids_of, says, spec, staged, stalls

PATH = "/v1/chat/completions"
OLDER = spec()
NEWER = replace(OLDER, source="/models/newer")


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


async def change(stage: Stage) -> None:
    await stage.decide(ModelDesired(spec=NEWER))
    described = ModelDescribed(model=MODEL, source=NEWER.source, card=card())
    await stage.seen(await stage.bus.log.record(described))


async def place_newer(stage: Stage) -> None:
    shards = (Shard(node=NODE),)
    await stage.decide(InstancePlaced(instance=InstanceId("i2"), spec=NEWER, shards=shards))
    await stage.report(InstanceId("i2"), "ready")


async def test_while_the_older_version_serves_requests_are_made_for_it(stage: Stage) -> None:
    async with stage.actor(says("hello")) as older:
        await change(stage)
        answer = await stage.http.post(PATH, json=chat())
        assert answer.status_code == 200
        assert [task.version for task in older.tasks] == [version_of(OLDER)]
        await place_newer(stage)
        async with Actor(stage.bus, InstanceId("i2"), says("hi")).on_stage() as newer:
            await stage.http.post(PATH, json=chat())
            assert not newer.tasks, "until the older one is retired"
            await stage.decide(InstanceRetired(instance=InstanceId("i1"), why="the newer is ready"))
            await stage.http.post(PATH, json=chat())
            assert [task.version for task in newer.tasks] == [version_of(NEWER)]


async def test_what_waits_and_has_not_begun_is_made_anew_for_the_newer_version(stage: Stage) -> None:
    async with stage.actor(says("hello")) as older:
        older.answer = Refused("busy", "its slots are in use")
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        async with stage.bus.queue.pulls(MODEL) as pulls:
            waiting = await pulls.next()
            assert waiting.task.version == version_of(OLDER)
            await waiting.give_back()
        await change(stage)
        await place_newer(stage)
        async with Actor(stage.bus, InstanceId("i2"), says("hi")).on_stage() as newer:
            await stage.decide(InstanceRetired(instance=InstanceId("i1"), why="the newer is ready"))
            answer = await asking
            assert answer.json()["choices"][0]["message"]["content"] == "hi"
            assert [task.version for task in newer.tasks] == [version_of(NEWER)]
            assert newer.tasks[0].attempt > 1


async def test_an_answer_that_was_begun_goes_on_at_its_own_version_or_breaks_off_by_name(
    stage: Stage,
) -> None:
    begun = asyncio.Event()

    async with stage.actor(stalls("hel")):
        await change(stage)
        await place_newer(stage)
        async with Actor(stage.bus, InstanceId("i2"), says("hi")).on_stage() as newer:
            events: list[dict[str, object]] = []

            async def read() -> None:
                async with stage.http.stream("POST", PATH, json=chat(stream=True)) as response:
                    async for line in response.aiter_lines():
                        if line.startswith("data: {"):
                            events.append(json.loads(line.removeprefix("data: ")))
                            if "hel" in line:
                                begun.set()

            reading = asyncio.create_task(read())
            await begun.wait()
            await stage.decide(InstanceRetired(instance=InstanceId("i1"), why="the newer is ready"))
            await stage.delete(InstanceId("i1"))
            await reading
            error = events[-1]["error"]
            assert isinstance(error, dict)
            assert error["code"] == "version_gone"
            assert OLDER.source in error["message"] and NEWER.source in error["message"]
            assert not newer.tasks


async def test_an_answer_that_was_begun_and_waits_in_the_queue_goes_on_where_its_version_still_is(
    stage: Stage,
) -> None:
    begun, ids = asyncio.Event(), ids_of("hello")

    async def play(actor: Actor, task: Task) -> None:
        done = task.made[0].count if task.made else 0
        await actor.start(task)
        if not done:
            await actor.tokens(task, ids[:1])
            begun.set()
            return
        await actor.tokens(task, ids[done:], done)
        await actor.end(task, len(ids))

    async with stage.actor(play) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await begun.wait()
        actor.answer, actor.attempt = Refused("busy", "its slots are in use"), 2
        async with stage.bus.queue.pulls(MODEL) as pulls:
            await stage.retry(InstanceId("i1"), 2)
            await stage.report(InstanceId("i1"), "ready", attempt=2)
            waiting = await pulls.next()
            assert waiting.task.made[0].count == 1
            await waiting.give_back()
        actor.answer = None
        await change(stage)
        await stage.decide(InstanceRetired(instance=InstanceId("i1"), why="both do not fit"))
        answer = await asking
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    assert [bool(task.made) for task in actor.tasks] == [False, True]


async def test_a_request_demands_its_model_once_and_again_and_hears_why_it_cannot_be(stage: Stage) -> None:
    await stage.decide(ModelDesired(spec=replace(OLDER, on_demand=True)))
    demands: list[DemandModel] = []
    answers: list[Answer] = [Done(), Refused("no_place", "5 bytes of memory are missing.")]

    async def lead(order: DemandModel) -> Answer:
        demands.append(order)
        return answers[len(demands) - 1]

    async with stage.bus.serving(stage.bus.subjects.master, DemandModel, lead):
        answer = await stage.http.post(PATH, json=chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_place")
    assert "5 bytes of memory are missing" in answer.json()["error"]["message"]
    assert [each.model for each in demands] == [MODEL, MODEL]
    assert demands[0].waited_s < demands[1].waited_s
