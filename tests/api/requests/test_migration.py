"""Whoever works on a request is lost: its client reads on as if nothing had been."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.chunks import Ended, Failed, FailureCode, SequenceEnded, Timings, Usage
from schemas.events import InstancePlaced
from schemas.ids import InstanceId, NodeId
from schemas.instance import Fate, Shard
from schemas.refused import Refused
from schemas.task import Made, Task, pack_ids, unpack_ids
from tests.api.requests.keeping import until_kept
from tests.api.stage import MODEL, NODE, Actor, Play, Stage, chat, ids_of, says, spec, staged
from tests.conftest import ConnectBus
from tests.facts import joined
from tests.relay import Relay, relaying

PATH = "/v1/chat/completions"
TEXT = "the quick brown fox jumps over the lazy dog"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def goes_on(text: str, reaches: int | None = None) -> Play:
    """Answers `text` from where the task says, up to token `reaches` and no further."""
    ids = ids_of(text)

    async def play(actor: Actor, task: Task) -> None:
        begin = task.made[0].count if task.made else 0
        assert not task.made or unpack_ids(task.made[0].ids) == ids[:begin]
        await actor.start(task)
        for offset in range(begin, len(ids) if reaches is None else reaches):
            await actor.tokens(task, [ids[offset]], offset)
        if reaches is None:
            await actor.end(task, len(ids))

    return play


async def streamed(stage: Stage, on_words: Callable[[str], Awaitable[None]], **more: Any) -> str:
    """The words of a stream; `on_words` is told all of them each time that there are more."""
    words = ""
    async with stage.http.stream("POST", PATH, json=chat(stream=True, **more)) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            content = event["choices"][0]["delta"].get("content")
            if content:
                words += content
                await on_words(words)
    return words


class Once:
    """Does something when so many words are there, once."""

    def __init__(self, words: str, act: Callable[[], Awaitable[object]]) -> None:
        self._words = words
        self._act = act
        self.done = False

    async def __call__(self, words: str) -> None:
        if words.startswith(self._words) and not self.done:
            self.done = True
            await self._act()


SOME = TEXT[:9]
IDS = ids_of(TEXT)
REACHES = len(ids_of(SOME))
MADE = (Made(pack_ids(IDS[:REACHES])),)
BUSY = Refused("busy", "not yet")


@pytest.fixture
async def first(stage: Stage) -> AsyncIterator[Actor]:
    """Comes as far as SOME, and no further."""
    async with Actor(stage.bus, await stage.place("first"), goes_on(TEXT, REACHES)).on_stage() as actor:
        yield actor


@pytest.fixture
async def second(stage: Stage) -> AsyncIterator[Actor]:
    """On a node of its own; takes nothing until its `answer` is None."""
    await stage.seen(await stage.bus.log.record(joined("n2")))
    instance = InstanceId("second")
    shards = (Shard(node=NodeId("n2")),)
    await stage.decide(InstancePlaced(instance=instance, spec=spec(), shards=shards))
    await stage.report(instance, "ready")
    async with Actor(stage.bus, instance, goes_on(TEXT)).on_stage() as actor:
        actor.answer = BUSY
        yield actor


async def fail(stage: Stage) -> None:
    await stage.report(InstanceId("first"), "failed", reason="killed by signal 9", fate="killed")


async def restart(stage: Stage) -> None:
    await stage.retry(InstanceId("first"), 2)


async def remove(stage: Stage) -> None:
    await stage.delete(InstanceId("first"))


async def lose_node(stage: Stage) -> None:
    await stage.lose_node()


@pytest.mark.parametrize("breaks", [fail, restart, remove, lose_node])
async def test_a_lost_runner_is_not_noticed(
    stage: Stage, first: Actor, second: Actor, breaks: Callable[[Stage], Awaitable[None]]
) -> None:
    async def lose() -> None:
        second.answer = None
        await breaks(stage)

    assert await streamed(stage, Once(SOME, lose), seed=7) == TEXT
    (task,), (again,) = first.tasks, second.tasks
    assert again == msgspec.structs.replace(task, attempt=2, made=MADE)


async def test_without_a_stream_too(stage: Stage, first: Actor, second: Actor) -> None:
    asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
    async with asyncio.timeout(5):
        await first.played.wait()
    second.answer = None
    await fail(stage)
    answer = (await asking).json()
    assert answer["choices"][0]["message"]["content"] == TEXT
    assert answer["usage"]["completion_tokens"] == len(IDS)


async def test_the_same_instance_takes_it_in_its_next_life(stage: Stage, first: Actor) -> None:
    """There is no other: the task waits in the queue until the runner is ready and pulls it."""

    async def end() -> None:
        first.answer, first.attempt, first.play = BUSY, 2, goes_on(TEXT)
        await restart(stage)
        async with asyncio.timeout(5), stage.bus.queue.pulls(MODEL) as pulls:
            pulled = await pulls.next()
            await pulled.take()
            first.begin(pulled.task)

    assert await streamed(stage, Once(SOME, end)) == TEXT


@pytest.mark.parametrize("code", ["engine_failed", "out_of_memory", "unavailable", "runner_lost"])
async def test_what_the_engine_could_not_do_another_one_may(
    stage: Stage, first: Actor, second: Actor, code: FailureCode
) -> None:
    async def fail_task() -> None:
        second.answer = None
        (task,) = first.tasks
        await first.send(task, Failed(task.request, task.attempt, code, "a kernel broke"))

    assert await streamed(stage, Once(SOME, fail_task)) == TEXT


async def test_who_is_silent_is_left(bus: Bus) -> None:
    async with staged(bus, silence_deadline_s=0.3) as stage, stage.actor(goes_on(TEXT, REACHES)) as actor:

        async def come_back() -> None:
            actor.play = goes_on(TEXT)

        assert await streamed(stage, Once(SOME, come_back)) == TEXT
        async with asyncio.timeout(2):
            assert (await actor.cancelled.get()).attempt == 1


async def test_late_chunks_of_the_attempt_before_change_nothing(
    stage: Stage, first: Actor, second: Actor
) -> None:
    async def say_more(actor: Actor, task: Task) -> None:
        old = first.tasks[0]
        await first.tokens(old, ids_of("nonsense"), REACHES)
        await first.end(old, REACHES + 1)
        await goes_on(TEXT)(actor, task)

    async def lose() -> None:
        second.answer, second.play = None, say_more
        await fail(stage)

    assert await streamed(stage, Once(SOME, lose)) == TEXT


async def test_who_has_made_all_need_not_say_so(stage: Stage, first: Actor) -> None:
    """The sequence is known to be complete, but the end of the request was lost with its runner."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, IDS)
        await actor.send(task, SequenceEnded(task.request, task.attempt, 0, "stop", len(IDS)))

    first.play = play
    assert await streamed(stage, Once(TEXT, lambda: fail(stage))) == TEXT


# Chunks that are lost on the bus


@pytest.fixture
async def far(nats_server: Server, connect_bus: ConnectBus) -> AsyncIterator[tuple[Stage, Bus, Relay]]:
    """An API whose connection can be cut, and a bus that goes on meanwhile."""
    near = await connect_bus("near")
    async with relaying(nats_server.port) as relay:
        through = await Bus.connect(relay.url, "troupe", "far", NODE)
        async with staged(through, bus_silence_s=30.0) as stage:
            yield stage, near, relay
        await through.close()


async def cut(bus: Bus, relay: Relay) -> None:
    relay.cut()
    await bus.connection.until_down()


async def mend(bus: Bus, relay: Relay) -> None:
    relay.mend()
    await bus.until_connected()


@pytest.mark.parametrize("whole", [True, False])
async def test_chunks_lost_by_a_reconnect_are_fetched(far: tuple[Stage, Bus, Relay], whole: bool) -> None:
    """`whole`: the end is among them, and nothing that comes later tells of the loss."""
    stage, near, relay = far
    actor = Actor(near, await stage.place("first"), goes_on(TEXT, REACHES))

    async def lose_some() -> None:
        await cut(stage.bus, relay)
        (task,) = actor.tasks
        for offset in range(REACHES, len(IDS)):
            if not whole and offset == len(IDS) - 1:
                await mend(stage.bus, relay)
            await actor.tokens(task, [IDS[offset]], offset)
        await actor.end(task, len(IDS))
        await near.connection.client.flush()
        await mend(stage.bus, relay)

    async with actor.on_stage():
        assert await streamed(stage, Once(SOME, lose_some)) == TEXT
    assert len(actor.tasks) == 1


async def test_what_is_not_kept_is_made_again(far: tuple[Stage, Bus, Relay]) -> None:
    stage, near, relay = far
    actor = Actor(near, await stage.place("first"), goes_on(TEXT, REACHES))

    async def lose_some() -> None:
        await cut(stage.bus, relay)
        (task,) = actor.tasks
        await actor.tokens(task, [IDS[REACHES]], REACHES)
        await until_kept(near, task.api, 1 + REACHES + 1)
        await near.connection.jetstream.purge_stream("troupe_out")
        await mend(stage.bus, relay)
        actor.play = goes_on(TEXT)
        await actor.tokens(task, [IDS[REACHES + 1]], REACHES + 1)

    async with actor.on_stage():
        assert await streamed(stage, Once(SOME, lose_some)) == TEXT
    assert [task.attempt for task in actor.tasks] == [1, 2]


async def test_an_end_that_was_lost_between_servers_is_asked_for(bus: Bus, connect_bus: ConnectBus) -> None:
    """Both ends keep their connections, and nothing tells of the loss."""
    elsewhere = await connect_bus(cluster="elsewhere")
    async with staged(bus, unheard_s=0.1) as stage, stage.actor(goes_on(TEXT, REACHES)) as actor:

        async def end() -> None:
            (task,) = actor.tasks
            actor.bus, actor.play = elsewhere, goes_on(TEXT)
            await actor.tokens(task, IDS[REACHES:], REACHES)
            await actor.end(task, len(IDS))
            actor.bus = bus

        assert await streamed(stage, Once(SOME, end)) == TEXT
        assert [(task.attempt, task.made) for task in actor.tasks] == [(1, ()), (2, MADE)]


async def test_a_lost_last_token_is_missed(stage: Stage, first: Actor, second: Actor) -> None:
    async def end() -> None:
        second.answer = None
        (task,) = first.tasks
        await first.tokens(task, IDS[REACHES:-1], REACHES)
        await first.end(task, len(IDS))

    assert await streamed(stage, Once(SOME, end)) == TEXT
    assert second.tasks[0].made == (Made(pack_ids(IDS[:-1])),)


async def test_what_is_silent_after_the_bus_came_back_is_tried_again(bus: Bus, nats_server: Server) -> None:
    """Its last chunk may have died with the bus."""
    async with staged(bus, bus_silence_s=0.3) as stage, stage.actor(goes_on(TEXT, REACHES)) as actor:

        async def restart_bus() -> None:
            actor.play = goes_on(TEXT)
            await nats_server.stop()
            await nats_server.start()

        assert await streamed(stage, Once(SOME, restart_bus)) == TEXT
        await bus.connection.jetstream.stream_info("troupe_out")  # in memory: it was made again


# Tasks that wait


async def test_a_task_that_died_with_whoever_took_it_out_of_the_queue(
    stage: Stage, first: Actor, second: Actor
) -> None:
    first.answer = BUSY
    async with stage.bus.queue.pulls(MODEL) as pulls:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        async with asyncio.timeout(5):
            await (await pulls.next()).take()
        second.answer = None
        await fail(stage)
        assert (await asking).json()["choices"][0]["message"]["content"] == TEXT
    assert second.tasks[0].attempt == 2


@pytest.mark.slow
async def test_a_task_that_was_taken_by_whoever_was_not_heard(bus: Bus) -> None:
    """Nothing else tells of it: no runner is lost, as far as anybody knows."""
    async with staged(bus, unheard_s=0.1) as stage, stage.actor(goes_on(TEXT)) as actor:
        actor.answer = BUSY
        async with stage.bus.queue.pulls(MODEL) as pulls:
            asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
            async with asyncio.timeout(20):
                await (await pulls.next()).take()
            actor.answer = None
            assert (await asking).json()["choices"][0]["message"]["content"] == TEXT
        assert actor.tasks[0].attempt == 2


# Several sequences


async def test_each_sequence_goes_on_from_where_it_is(stage: Stage, first: Actor, second: Actor) -> None:
    """One is half made, one is complete, one has not begun."""
    whole, half = ids_of("done"), ids_of("half way there")

    async def begin(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, whole, index=0)
        await actor.send(task, SequenceEnded(task.request, task.attempt, 0, "length", len(whole)))
        await actor.tokens(task, half[:2], index=1)

    async def go_on(actor: Actor, task: Task) -> None:
        assert task.made == (Made(pack_ids(whole), "length"), Made(pack_ids(half[:2])), Made())
        await actor.start(task)
        await actor.tokens(task, half[2:], 2, index=1)
        await actor.tokens(task, half, index=2)
        for index in (1, 2):
            await actor.send(task, SequenceEnded(task.request, task.attempt, index, "stop", len(half)))
        usage = Usage(1, len(whole) + 2 * len(half))
        await actor.send(task, Ended(task.request, task.attempt, usage, Timings()))

    first.play, second.play = begin, go_on
    asking = asyncio.create_task(stage.http.post(PATH, json=chat(n=3)))
    async with asyncio.timeout(5):
        await first.played.wait()
    second.answer = None
    await fail(stage)
    choices = (await asking).json()["choices"]
    assert [choice["message"]["content"] for choice in choices] == [
        "done",
        "half way there",
        "half way there",
    ]
    assert [choice["finish_reason"] for choice in choices] == ["length", "stop", "stop"]


async def test_who_is_lost_and_goes_on_taking_tasks_does_not_use_up_attempts(
    stage: Stage, second: Actor
) -> None:
    """A rank whose group is broken, until its worker ends it: the pauses grow, so that the attempts outlast it."""
    taken: list[float] = []

    async def take(actor: Actor, task: Task) -> None:
        taken.append(asyncio.get_running_loop().time())
        await actor.start(task)
        if len(taken) == 6:
            gone.set()

    async def lives_on() -> None:
        async with Actor(stage.bus, InstanceId("first"), take).on_stage() as lost, pulling(lost):
            await gone.wait()
        second.answer = None
        await stage.delete(InstanceId("first"))

    gone = asyncio.Event()
    instance = await stage.place("first")
    await stage.report(instance, "failed", reason="the link to rank 1 is cut")
    async with asyncio.timeout(30):
        dying = asyncio.create_task(lives_on())
        answer = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await dying
        async with pulling(second):
            choices = (await answer).json()["choices"]
    assert choices[0]["message"]["content"] == TEXT
    assert taken[5] - taken[0] >= 0.75


# Poison


@asynccontextmanager
async def pulling(actor: Actor) -> AsyncIterator[None]:
    """It takes what waits, as a runner does that is ready again."""

    async def pull() -> None:
        async with actor.bus.queue.pulls(MODEL) as pulls:
            while True:
                pulled = await pulls.next()
                await pulled.take()
                actor.begin(pulled.task)

    task = asyncio.create_task(pull())
    yield
    task.cancel()
    await asyncio.wait((task,))


def dies(stage: Stage, fate: Fate, poison: str) -> Play:
    """Of tasks whose prompt ends in `poison`; others say nothing on their first attempt, and answer on the next."""

    lives = asyncio.Lock()

    async def play(actor: Actor, task: Task) -> None:
        async with lives:  # who is pulled at once begins in the next life, not while this one ends
            await actor.start(task)
            if pack_ids(ids_of(poison)) in task.prompt:
                await die(actor)
                return
        if task.attempt > 1:
            await goes_on(TEXT)(actor, task)

    async def die(actor: Actor) -> None:
        life, actor.attempt = actor.attempt, actor.attempt + 1
        await stage.report(actor.instance, "failed", life, reason="it crashed", fate=fate)
        await stage.retry(actor.instance, life + 1)
        await stage.report(actor.instance, "ready", life + 1)

    return play


@pytest.mark.parametrize(("fate", "deaths"), [("fell", 2), ("killed", 4)])
async def test_a_task_that_ends_its_runners_is_poison(stage: Stage, fate: Fate, deaths: int) -> None:
    async with stage.actor(dies(stage, fate, "poison")) as actor, pulling(actor):
        response = await stage.http.post(PATH, json=chat("poison"))
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (500, "poison")
        assert response.headers["x-request-id"] in error["message"]
        assert len(actor.tasks) == deaths
        actor.play = says("well")
        assert (await stage.http.post(PATH, json=chat())).status_code == 200


async def test_who_was_beside_a_poison_is_not_blamed(stage: Stage) -> None:
    """All die with it before their first token; afterwards each is tried without the others."""
    async with stage.actor(dies(stage, "fell", "poison")) as actor, pulling(actor):
        innocents = [asyncio.create_task(stage.http.post(PATH, json=chat("hello"))) for _ in range(3)]
        async with asyncio.timeout(5):
            while len(actor.tasks) < 3:
                actor.played.clear()
                await actor.played.wait()
        guilty = await stage.http.post(PATH, json=chat("poison"))
        assert guilty.json()["error"]["code"] == "poison"
        for innocent in innocents:
            assert (await innocent).json()["choices"][0]["message"]["content"] == TEXT
        ended = [task for task in actor.tasks if task.request == guilty.headers["x-request-id"]]
        assert len(ended) == 3, "the first time it was one of four"


async def test_who_waits_in_a_runner_that_lives_is_not_blamed_for_the_death_of_another(
    stage: Stage, first: Actor, second: Actor
) -> None:
    """It was pulled, and has not begun: nobody knows by whom."""
    first.answer = BUSY
    asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
    async with stage.bus.queue.pulls(MODEL) as pulls, asyncio.timeout(60):
        for life in (1, 2, 3):
            pulled = await pulls.next()
            await pulled.take()
            assert pulled.task.attempt == life
            if life == 3:
                break
            await stage.report(first.instance, "failed", life, reason="it crashed", fate="fell")
            await stage.retry(first.instance, life + 1)
            await stage.report(first.instance, "ready", life + 1)
        await says("well")(second, pulled.task)
    assert (await asking).json()["choices"][0]["message"]["content"] == "well"


async def test_who_makes_progress_is_never_poison(stage: Stage) -> None:
    lives = asyncio.Lock()

    async def play(actor: Actor, task: Task) -> None:
        """A token in each life, one after the other."""
        async with lives:
            await live(actor, task)

    async def live(actor: Actor, task: Task) -> None:
        begin = task.made[0].count if task.made else 0
        await actor.start(task)
        await actor.tokens(task, IDS[begin : begin + 1], begin)
        if begin + 1 == len(IDS):
            await actor.end(task, len(IDS))
            return
        await actor.bus.connection.client.flush()
        life, actor.attempt = actor.attempt, actor.attempt + 1
        await stage.report(actor.instance, "failed", life, reason="it crashed", fate="fell")
        await stage.retry(actor.instance, life + 1)
        await stage.report(actor.instance, "ready", life + 1)

    async with stage.actor(play) as actor, pulling(actor):
        response = await stage.http.post(PATH, json=chat())
        assert response.json()["choices"][0]["message"]["content"] == TEXT
    assert len(actor.tasks) == len(IDS)
