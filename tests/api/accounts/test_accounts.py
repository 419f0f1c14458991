"""Every finished request leaves one record that says what it cost and how it ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import time

import msgspec
import pytest

from api.accounts.account import Account
from bus.bus import Bus
from schemas.audit import Audit
from schemas.chunks import Chunk, Ended, Failed, SequenceEnded, Started, Timings, Usage
from schemas.ids import InstanceId
from schemas.refused import Refused
from schemas.task import Task
from tests.api.scrape import until, value
from tests.api.stage import MODEL, NODE, Actor, Play, Stage, chat, ids_of, request_of, says, staged, stalls

PATH = "/v1/chat/completions"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


@pytest.fixture
async def records(bus: Bus) -> AsyncIterator[asyncio.Queue[Audit]]:
    """Each record as it is written."""
    heard: asyncio.Queue[Audit] = asyncio.Queue()

    def hear(payload: bytes, _subject: str) -> None:
        heard.put_nowait(msgspec.json.decode(payload, type=Audit))

    async with bus.listening(bus.subjects.audits, hear), asyncio.timeout(20):
        yield heard


Records = asyncio.Queue[Audit]


async def test_a_whole_answer(stage: Stage, records: Records) -> None:
    ids, began = ids_of("the quick brown fox"), time()

    async def play(actor: Actor, task: Task) -> None:
        await actor.send(task, Started(task.request, 1, actor.instance, NODE, 1, 5))
        for offset, token in enumerate(ids):
            await actor.tokens(task, [token], offset)
        usage = Usage(len(task.prompt) // 4, len(ids), 5)
        await actor.send(
            task,
            SequenceEnded(task.request, 1, 0, "stop"),
            Ended(task.request, 1, usage, Timings(0.5, 1.5, 2)),
        )

    async with stage.actor(play) as actor:
        response = await stage.http.post(PATH, json=chat(user="ann", metadata={"team": "blue"}))
        record = await records.get()
        (task,) = actor.tasks
    assert record.request == request_of(response)
    assert (record.model, record.node, record.outcome, record.code) == (MODEL, NODE, "stop", "")
    assert (record.api, record.lane) == (task.api, "normal")
    assert (record.endpoint, record.user, record.metadata) == ("chat.completions", "ann", {"team": "blue"})
    assert (record.instances, record.attempts) == ((actor.instance,), 1)
    assert record.prompt_tokens == response.json()["usage"]["prompt_tokens"] == len(task.prompt) // 4
    assert (record.completion_tokens, record.cached_tokens) == (len(ids), 5)
    assert (record.engine_waited_s, record.prefill_s, record.decode_s) == (0.5, 1.5, 2)
    assert began <= record.asked_at <= time()
    assert record.first_token_s is not None and record.inter_token_max_s is not None
    assert record.waited_s + record.queue_s <= record.duration_s
    assert record.first_token_s <= record.duration_s
    assert record.inter_token_mean_s is not None and record.inter_token_p50_s is not None
    assert 0 < record.inter_token_mean_s <= record.inter_token_max_s
    assert 0 < record.inter_token_p50_s <= record.inter_token_max_s


async def test_an_answer_that_was_cut_at_its_limit(stage: Stage, records: Records) -> None:
    async with stage.actor(says("the quick", "length")):
        await stage.http.post(PATH, json=chat())
        assert (await records.get()).outcome == "length"


async def test_a_stop_string_is_a_whole_answer(stage: Stage, records: Records) -> None:
    async with stage.actor(stalls("one two three four")):
        await stage.http.post(PATH, json=chat(stop="three"))
        record = await records.get()
    assert (record.outcome, record.code) == ("stop", "")
    assert record.completion_tokens == len(ids_of("one two three four"))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves(stage: Stage, records: Records, stream: bool) -> None:
    async with stage.actor(stalls("hello there")) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat(stream=stream)))
        await until(stage, "troupe_requests_open", 1, stage="decoding")
        asking.cancel()
        record = await records.get()
    assert (record.outcome, record.code, record.instances) == ("client_left", "", (actor.instance,))
    assert record.prompt_tokens > 0


async def test_a_client_that_leaves_the_queue(stage: Stage, records: Records) -> None:
    waits = asyncio.Event()
    async with stage.bus.listening(stage.bus.subjects.tasks, lambda *_: waits.set()):
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await waits.wait()
        asking.cancel()
        record = await records.get()
    assert (record.outcome, record.instances, record.first_token_s) == ("client_left", (), None)
    assert 0 < record.queue_s <= record.duration_s


def fails(make: Callable[[Task], Chunk]) -> Play:
    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.send(task, make(task))

    return play


async def test_a_runner_that_says_no(stage: Stage, records: Records) -> None:
    async with stage.actor(fails(lambda task: Failed(task.request, 1, "bad_request", "odd"))):
        assert (await stage.http.post(PATH, json=chat())).status_code == 400
        record = await records.get()
    assert (record.outcome, record.code) == ("refused", "bad_request")


async def test_an_instance_that_refuses_the_offer(stage: Stage, records: Records) -> None:
    async with stage.actor(says("x")) as actor:
        actor.answer = Refused("bad_request", "not for me")
        assert (await stage.http.post(PATH, json=chat())).status_code == 400
        record = await records.get()
    assert (record.outcome, record.code, record.instances) == ("refused", "bad_request", ())


async def test_an_answer_that_breaks_off(bus: Bus, records: Records) -> None:
    async with staged(bus, silence_deadline_s=0.2) as stage, stage.actor(stalls("hel")) as actor:
        await stage.http.post(PATH, json=chat())
        record = await records.get()
    assert record.outcome == "failed"
    assert record.code == "silent"
    assert record.instances[0] == actor.instance


async def test_what_was_refused_at_the_door_leaves_no_record(stage: Stage, records: Records) -> None:
    async with stage.actor(says("x")):
        await stage.http.post(PATH, json=chat(model="nobody"))
        await stage.http.post(PATH, json=chat(temperature=7))
        await stage.http.post(PATH, json=chat("long " * 2000))
        response = await stage.http.post(PATH, json=chat())
        record = await records.get()
    assert record.request == request_of(response)
    assert records.empty()


def test_sequences_have_times_of_their_own() -> None:
    account = Account()
    for index in (0, 1, 0, 1, 1):
        account.took(index, 2)
    assert account.pace.count == 2 * 3, "the first tokens of each sequence follow nothing"


def test_the_same_attempt_is_placed_once_and_another_one_is_a_move() -> None:
    account = Account()
    for instance, attempt in (("i1", 1), ("i1", 1), ("i2", 3), ("i2", 3)):
        account.placed(InstanceId(instance), attempt)
    assert (account.instances, account.migrations) == (["i1", "i2"], 1)


async def test_an_answer_that_moved_names_both_who_worked_on_it(stage: Stage, records: Records) -> None:
    ids = ids_of("the quick brown fox")

    async def breaks_off(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, ids[:2])

    async def goes_on(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, ids[task.made[0].count :], task.made[0].count)
        await actor.end(task, len(ids))

    async with stage.actor(breaks_off, "i1") as first:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat()))
        await until(stage, "troupe_requests_open", 1, stage="decoding")
        async with stage.actor(goes_on, "i2") as second:
            await stage.report(first.instance, "failed", reason="killed by signal 9")
            assert (await asking).status_code == 200
            record = await records.get()
            assert await value(stage, "troupe_migrations_total", model=MODEL) == 1
    assert (record.outcome, record.instances) == ("stop", (first.instance, second.instance))
    assert record.attempts == 2
    assert record.completion_tokens == len(ids)
