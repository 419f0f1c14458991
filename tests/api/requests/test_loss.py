"""What clients see when something is lost, late, wrong or away; and what is told to whom when they leave."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Self

import msgspec
import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.chunks import Failed, Prefilled, Started, Tokens
from schemas.events import ModelDesired
from schemas.ids import InstanceId, ModelId, RequestId
from schemas.refused import Refused
from schemas.task import Task, pack_ids
from tests.api.stage import MODEL, NODE, Actor, Stage, chat, ids_of, says, silent, spec, staged, stalls

PATH = "/v1/chat/completions"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


class Client:
    """A streaming client that looks at one event after the other, and may leave."""

    def __init__(self, stage: Stage, model: ModelId = MODEL) -> None:
        self._stream = stage.http.stream("POST", PATH, json=chat(stream=True, model=model))

    async def __aenter__(self) -> Self:
        self._lines = (await self._stream.__aenter__()).aiter_lines()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._stream.__aexit__(None, None, None)

    async def next(self) -> str:
        async for line in self._lines:
            if line:
                return line
        return ""

    async def until(self, text: str) -> str:
        seen = ""
        while text not in seen:
            line = await self.next()
            assert line, f"the stream ended before {text!r}: {seen}"
            seen += line
        return seen

    async def rest(self) -> list[str]:
        return [line async for line in self._lines if line]


# Clients that leave


async def test_a_streaming_client_that_leaves_cancels(stage: Stage) -> None:
    async with stage.actor(stalls("hello")) as actor:
        async with Client(stage) as client:
            await client.until("hello")
        async with asyncio.timeout(2):
            assert (await actor.cancelled.get()).request == actor.tasks[0].request


@pytest.mark.parametrize("stream", [True, False])
async def test_a_waiting_client_that_leaves_cancels(stage: Stage, stream: bool) -> None:
    taken = asyncio.Event()

    async def play(_actor: Actor, _task: Task) -> None:
        taken.set()

    async with stage.actor(play) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat(stream=stream)))
        await taken.wait()
        asking.cancel()
        async with asyncio.timeout(2):
            assert (await actor.cancelled.get()).request == actor.tasks[0].request


@pytest.mark.parametrize("stream", [True, False])
async def test_a_queued_client_that_leaves_takes_its_task_back(stage: Stage, stream: bool) -> None:
    handled: asyncio.Queue[bytes] = asyncio.Queue()
    queued = asyncio.Event()
    async with (
        stage.bus.listening("$JS.EVENT.ADVISORY.API", lambda payload, _: handled.put_nowait(payload)),
        stage.bus.listening(stage.bus.subjects.tasks, lambda *_: queued.set()),
    ):
        asking = asyncio.create_task(stage.http.post(PATH, json=chat(stream=stream)))
        await queued.wait()
        asking.cancel()
        async with asyncio.timeout(3):
            while b"STREAM.MSG.DELETE" not in await handled.get():
                pass
    info = await stage.bus.connection.jetstream.stream_info(f"{stage.bus.cluster}_tasks")
    assert info.state.messages == 0


async def test_work_that_begins_for_nobody_is_cancelled(stage: Stage) -> None:
    async with stage.actor(says("x")) as actor:
        await stage.http.post(PATH, json=chat())
        task = msgspec.structs.replace(actor.tasks[0], request=RequestId("stray"))
        await actor.start(task)
        async with asyncio.timeout(2):
            assert (await actor.cancelled.get()).request == "stray"


# Runners that are lost: tests/api/test_migration.py has what becomes of their requests


async def test_what_the_engine_cannot_do_is_an_error_in_the_end(stage: Stage) -> None:
    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.send(task, Failed(task.request, task.attempt, "out_of_memory", "12 GiB were not enough"))

    async with stage.actor(play) as actor:
        for stream in (True, False):
            response = await stage.http.post(PATH, json=chat(stream=stream))
            assert response.status_code == 503
            assert "12 GiB" in response.json()["error"]["message"]
    assert [task.attempt for task in actor.tasks] == [1, 2, 3] * 2


async def test_what_a_runner_refuses_is_not_tried_again(stage: Stage) -> None:
    async def play(actor: Actor, task: Task) -> None:
        await actor.send(task, Failed(task.request, task.attempt, "bad_request", "no such grammar"))

    async with stage.actor(play) as actor:
        response = await stage.http.post(PATH, json=chat())
    assert (response.status_code, response.json()["error"]["message"]) == (400, "no such grammar")
    assert len(actor.tasks) == 1


async def test_silence_is_given_up_when_there_is_no_time_left(bus: Bus) -> None:
    """Until then it is tried again, and whoever was silent is told to stop."""
    settings = {"silence_deadline_s": 0.3, "wait_deadline_s": 3.0}
    async with staged(bus, **settings) as stage, stage.actor(silent) as actor:
        response = await stage.http.post(PATH, json=chat())
        assert (response.status_code, response.json()["error"]["code"]) == (504, "silent")
        async with asyncio.timeout(10):
            assert [(await actor.cancelled.get()).attempt for _ in actor.tasks[1:]] == [
                task.attempt for task in actor.tasks[:-1]
            ]
    assert len(actor.tasks) > 1


async def test_an_offer_without_an_answer_becomes_the_next_attempt(bus: Bus) -> None:
    """The first instance may have taken it: what it sends does not count, and it is told to stop."""
    async with staged(bus, offer_timeout_s=1.0) as stage, stage.actor(says("right")) as actor:
        deaf = await stage.place("deaf")
        held: list[Task] = []

        def hold(payload: bytes, _subject: str) -> None:
            held.append(msgspec.msgpack.decode(payload, type=Task))

        async with bus.listening(bus.subjects.run(deaf), hold):
            await bus.connection.client.flush()
            actor.answer = None
            while not held:
                response = await stage.http.post(PATH, json=chat())
                assert response.json()["choices"][0]["message"]["content"] == "right"
        assert (actor.tasks[-1].attempt, held[0].attempt) == (2, 1)
        cancel = await actor.cancelled.get()
        assert (cancel.request, cancel.attempt) == (held[0].request, 1)


# Chunks that are late, repeated, lost or none


async def test_late_repeated_and_foreign_chunks_are_harmless(stage: Stage) -> None:
    ids = ids_of("the quick brown fox jumps")

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, ids[:3])
        await actor.tokens(task, ids[:3])
        await actor.tokens(task, ids[1:4], 1)
        for foreign in (
            Tokens(task.request, task.attempt + 1, 0, 4, pack_ids([5, 6])),
            Tokens(task.request, task.attempt - 1, 0, 4, pack_ids([5, 6])),
            Tokens(RequestId("nobody"), 1, 0, 4, pack_ids([5, 6])),
            Tokens(task.request, task.attempt, 1, 0, pack_ids([5, 6])),
            Tokens(task.request, task.attempt, 0, 4, b"odd"),
            Prefilled(task.request, task.attempt, 5, 5),
            Failed(task.request, task.attempt + 1, "engine_failed", "another attempt"),
        ):
            await actor.send(task, foreign)
        for raw in (b"", b"\xc1", b"{}", b"\x93\xa1T\x01\x02", os.urandom(64), b"\x91" * 100_000):
            await actor.bus.send_raw(actor.bus.subjects.out(task.api, task.request), raw)
        newer = [["X", task.request, 1], Tokens(task.request, task.attempt, 0, 4, pack_ids(ids[4:5]))]
        packed = msgspec.msgpack.encode(newer)
        await actor.bus.send_raw(actor.bus.subjects.out_all(task.api), packed)
        await actor.tokens(task, ids[5:], 5)
        await actor.end(task, len(ids))
        await actor.tokens(task, [7], len(ids))

    async with stage.actor(play):
        for stream in (False, True):
            response = await stage.http.post(PATH, json=chat(stream=stream))
            assert response.status_code == 200
            if not stream:
                assert response.json()["choices"][0]["message"]["content"] == "the quick brown fox jumps"


async def test_started_may_come_before_the_offer_is_answered(stage: Stage) -> None:
    async with stage.actor(says("early")) as actor:
        instance = InstanceId("late")
        await stage.place("late")

        async def offered(task: Task) -> object:
            await actor.send(task, Started(task.request, task.attempt, instance, NODE, 1))
            await says("early")(actor, task)
            await actor.bus.connection.client.flush()
            return Refused("busy", "never mind")

        actor.answer = Refused("busy", "use the other")
        async with stage.bus.serving(stage.bus.subjects.run(instance), Task, offered, packed=True):  # type: ignore[arg-type]
            response = await stage.http.post(PATH, json=chat())
    assert response.json()["choices"][0]["message"]["content"] == "early"


async def test_an_instance_that_begins_has_taken_the_task_without_an_answer(bus: Bus) -> None:
    """The answer to an offer may be late or lost: whoever works on it is not told to stop."""
    async with staged(bus, offer_timeout_s=2.0) as stage:
        actor = Actor(bus, await stage.place("mute"), silent)
        offers: asyncio.Queue[Task] = asyncio.Queue()
        cancels: asyncio.Queue[bytes] = asyncio.Queue()

        def offered(payload: bytes, _subject: str) -> None:
            offers.put_nowait(msgspec.msgpack.decode(payload, type=Task))

        async with (
            bus.listening(bus.subjects.run(actor.instance), offered),
            bus.listening(bus.subjects.cancels, lambda payload, _: cancels.put_nowait(payload)),
        ):
            await bus.connection.client.flush()
            asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
            task = await offers.get()
            await actor.start(task)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    await cancels.get()
            await says("taken")(actor, task)
            assert (await asking).json()["choices"][0]["message"]["content"] == "taken"


# Models that load


async def test_a_loading_model_keeps_its_requests(bus: Bus) -> None:
    async with staged(bus, keepalive_s=0.05) as stage:
        instance = await stage.place("slow", "loading")
        async with Actor(bus, instance, says("at last")).on_stage() as actor, Client(stage) as client:
            assert await client.next() == ": loading"
            assert await client.next() == ": loading"
            await stage.report(instance, "ready", slots=4)
            async with bus.queue.pulls(MODEL) as pulls:
                pulled = await pulls.next()
                await pulled.take()
                actor.begin(pulled.task)
                seen = await client.until("[DONE]")
    assert "at" in seen
    assert "error" not in seen


async def test_requests_wait_for_the_card_too(bus: Bus) -> None:
    fresh = ModelId("fresh")
    async with staged(bus, keepalive_s=0.05) as stage:
        await stage.desire(fresh, described=False)
        instance = await stage.place("f1", model=fresh)
        async with Actor(bus, instance, says("known")).on_stage():
            asking = asyncio.create_task(stage.http.post(PATH, json=chat(model=fresh)))
            async with Client(stage, model=fresh) as client:
                assert await client.next() == ": loading"
                await stage.describe(fresh)
                assert "error" not in await client.until("[DONE]")
            assert (await asking).json()["choices"][0]["message"]["content"] == "known"


async def test_waiting_has_a_deadline(bus: Bus) -> None:
    async with staged(bus, wait_deadline_s=0.3) as stage:
        response = await stage.http.post(PATH, json=chat())
        assert (response.status_code, response.json()["error"]["code"]) == (503, "wait_deadline")
        assert int(response.headers["retry-after"]) >= 1


async def test_a_model_that_failed_for_good_says_why(bus: Bus) -> None:
    async with staged(bus, keepalive_s=0.05) as stage:
        instance = await stage.place("broken", "loading")
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        async with Client(stage) as waiting:
            await stage.report(instance, "failed", reason="model.safetensors is truncated", retryable=False)
            assert "truncated" in await waiting.until("error")
        for response in (await asking, await stage.http.post(PATH, json=chat())):
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "model_failed"
            assert "truncated" in response.json()["error"]["message"]


async def test_a_model_without_replicas_keeps_nobody_waiting(stage: Stage) -> None:
    await stage.decide(ModelDesired(spec=msgspec.structs.replace(spec(), replicas=0)))
    response = await stage.http.post(PATH, json=chat())
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_replicas")


async def test_a_model_that_is_unloaded_ends_the_waiting(stage: Stage) -> None:
    asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
    await stage.bus.view.until(lambda _: True)
    await stage.unload()
    assert (await asking).status_code == 404


async def test_too_many_requests(bus: Bus) -> None:
    async with staged(bus, max_requests=1) as stage, stage.actor(stalls("hello")), Client(stage) as client:
        await client.until("hello")
        response = await stage.http.post(PATH, json=chat())
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


# The bus


async def test_a_bus_that_is_away_is_a_503_and_comes_back(stage: Stage, nats_server: Server) -> None:
    async with stage.actor(says("back")):
        os.kill(nats_server.pid, signal.SIGSTOP)  # type: ignore[arg-type]
        try:
            lost = asyncio.create_task(stage.http.post(PATH, json=chat()))
            response = await lost
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)  # type: ignore[arg-type]
        await stage.bus.until_connected()
        response = await stage.http.post(PATH, json=chat())
        assert response.json()["choices"][0]["message"]["content"] == "back"


async def test_when_the_connection_is_down(stage: Stage, nats_server: Server) -> None:
    async with stage.actor(says("x")):
        await stage.http.post(PATH, json=chat())
        await nats_server.stop()
        for stream in (True, False):
            response = await stage.http.post(PATH, json=chat(stream=stream))
            assert (response.status_code, response.json()["error"]["code"]) == (503, "bus_away")
            assert int(response.headers["retry-after"]) >= 1
        events = await stage.http.get("/cluster/events", params={"follow": "false"})
        assert (events.status_code, events.json()["error"]["code"]) == (503, "bus_away")
        ready = await stage.http.get("/health/ready")
        assert (ready.status_code, (await stage.http.get("/health/live")).status_code) == (503, 200)
        assert (await stage.http.get("/v1/models")).status_code == 200
        await nats_server.start()
        await stage.bus.until_connected()
