"""Who goes first, how long a request may wait, and what a full cluster says."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from api.requests.drain import Drain
from bus.bus import Bus
from schemas.chunks import Failed
from schemas.ids import ModelId
from schemas.refused import Refused
from schemas.task import Task
from tests.api.stage import MODEL, Actor, Stage, chat, says, silent, staged, stalls

PATH = "/v1/chat/completions"
LANE = "X-Troupe-Priority"
TIMEOUT = "X-Troupe-Timeout"
BUSY = Refused("busy", "all slots are in use")


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


async def until_queued(stage: Stage, count: int) -> None:
    async with asyncio.timeout(5):
        while True:
            info = await stage.bus.connection.jetstream.stream_info("troupe_tasks")
            if info.state.messages == count:
                return


async def serve_queue(stage: Stage, actor: Actor, count: int) -> list[Task]:
    async with asyncio.timeout(5), stage.bus.queue.pulls(MODEL) as pulls:
        pulled = [await pulls.next() for _ in range(count)]
    for each in pulled:
        await each.take()
        actor.begin(each.task)
    return [each.task for each in pulled]


async def test_what_waits_in_a_more_urgent_lane_is_pulled_first(stage: Stage) -> None:
    async with stage.actor(says("x")) as actor:
        actor.answer = BUSY
        asking = []
        for count, lane in enumerate(("batch", "normal", "high"), start=1):
            asking.append(asyncio.create_task(stage.http.post(PATH, json=chat(), headers={LANE: lane})))
            await until_queued(stage, count)
        tasks = await serve_queue(stage, actor, 3)
        assert [task.lane for task in tasks] == ["high", "normal", "batch"]
        for response in asking:
            assert (await response).status_code == 200


async def test_nobody_jumps_the_queue_of_his_lane(stage: Stage) -> None:
    """A slot is free again, but somebody waits for it in the queue; only a more urgent request is offered."""
    async with stage.actor(says("x")) as actor:
        actor.answer = BUSY
        first = asyncio.create_task(stage.http.post(PATH, json=chat("first")))
        await until_queued(stage, 1)
        actor.answer = None
        assert (await stage.http.post(PATH, json=chat("urgent"), headers={LANE: "high"})).status_code == 200
        assert [task.lane for task in actor.tasks] == ["high"]
        second = asyncio.create_task(stage.http.post(PATH, json=chat("second")))
        await until_queued(stage, 2)
        assert len(actor.tasks) == 1
        await serve_queue(stage, actor, 2)
        for response in (first, second):
            assert (await response).status_code == 200


async def test_a_full_queue_is_a_429(stage: Stage) -> None:
    configuration = (await stage.bus.connection.jetstream.stream_info("troupe_tasks")).config
    configuration.max_msgs = 1
    await stage.bus.connection.jetstream.update_stream(configuration)
    waiting = asyncio.create_task(stage.http.post(PATH, json=chat()))
    await until_queued(stage, 1)
    response = await stage.http.post(PATH, json=chat())
    assert (response.status_code, response.json()["error"]["code"]) == (429, "busy")
    assert int(response.headers["retry-after"]) >= 1
    waiting.cancel()


def test_when_to_ask_again_follows_from_what_was_served(monkeypatch: pytest.MonkeyPatch) -> None:
    drain, model, now = Drain(), ModelId("m"), 100.0
    monkeypatch.setattr("api.requests.drain.monotonic", lambda: now)
    assert drain.seconds_for(5, model, default_s=7) == 7, "nothing is known yet"
    for _ in range(11):
        drain.note(model)
        now += 0.5
    assert drain.rate(model) == pytest.approx(10 / 5.5)
    assert drain.seconds_for(20, model, default_s=7) == pytest.approx(11)
    assert drain.seconds_for(1_000_000, model, default_s=7) == 600
    now += 100
    assert drain.seconds_for(5, model, default_s=7) == 7, "that was long ago"


# Deadlines


@pytest.mark.parametrize("play", [silent, stalls("hel")])
async def test_a_deadline_ends_a_request_that_runs(stage: Stage, play: object) -> None:
    asked = time.time()
    async with stage.actor(play) as actor:  # type: ignore[arg-type]
        response = await stage.http.post(PATH, json=chat(), headers={TIMEOUT: "1"})
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
        async with asyncio.timeout(10):
            assert (await actor.cancelled.get()).request == actor.tasks[0].request
    assert asked + 5 < actor.tasks[0].deadline < time.time() + 7, (
        "the engine knows it too, with a margin for its clock"
    )


async def test_a_deadline_ends_a_request_that_waits(stage: Stage) -> None:
    response = await stage.http.post(PATH, json=chat(), headers={TIMEOUT: "0.3"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
    await until_queued(stage, 0)


async def test_without_a_deadline_a_task_has_none(stage: Stage) -> None:
    async with stage.actor(says("x")) as actor:
        await stage.http.post(PATH, json=chat())
    assert actor.tasks[0].deadline == 0


async def test_a_runner_whose_clock_is_wrong_ends_nothing_early(stage: Stage) -> None:
    """It takes the deadline for passed; the owner knows better, and sends the task again without it."""

    async def play(actor: Actor, task: Task) -> None:
        if task.deadline:
            await actor.send(task, Failed(task.request, task.attempt, "deadline", "late"))
        else:
            await says("in time")(actor, task)

    async with stage.actor(play):
        response = await stage.http.post(PATH, json=chat(), headers={TIMEOUT: "30"})
    assert response.json()["choices"][0]["message"]["content"] == "in time"
