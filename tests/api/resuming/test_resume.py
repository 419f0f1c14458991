"""A client whose connection broke sends its request again with the last id it saw, and gets exactly the rest."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from random import Random
from typing import Any

import httpx
import pytest

from api.requests.kept import kept
from api.resuming.birth import Birth, Life
from api.resuming.seal import Seal
from bus.bus import Bus
from bus.reader import Stored
from schemas.chunks import Tokens
from schemas.ids import ApiId, RequestId
from schemas.task import Task, pack_ids
from tests.api.parts import ends, word
from tests.api.resuming.tale import Event, Tale, events_in, up_to
from tests.api.stage import MODEL, Actor, Play, Stage, api_beside, chat, ids_of, staged
from tests.api.tools.test_calls import CALL, SECOND, THINKS, THOUGHT_BEGUN, TOOL, use
from tests.conftest import ConnectBus

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
FOX = "The quick brown fox 东京 \N{GRINNING FACE} jumps over the lazy dog, and then it rests."
DOG = "A dog: \N{SNOWMAN} sleeps."
THINK = "hm, well\n</think>\n\n" + FOX
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
LOGPROBS: dict[str, Any] = {"logprobs": True, "top_logprobs": 2}

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "plain": (CHAT, chat(), (FOX,)),
    "usage": (CHAT, chat(**USAGE), (FOX,)),
    "three choices": (CHAT, chat(n=3, **USAGE), (FOX, DOG, "")),
    "log-probabilities": (CHAT, chat(n=2, **LOGPROBS), (FOX, DOG)),
    "a stop string": (CHAT, chat(stop=["over it", "over the"], n=2, **LOGPROBS), (FOX, DOG)),
    "calls": (CHAT, chat(tools=[TOOL], **USAGE), (f"Let me see. {CALL}\n{SECOND}",)),
    "calls, log-probabilities": (CHAT, chat(tools=[TOOL], n=2, **LOGPROBS), (f"Well: {CALL}", SECOND)),
    "one call": (CHAT, chat(tools=[TOOL], parallel_tool_calls=False), (f"{CALL} and\n{SECOND}",)),
    "a thought": (CHAT, chat(n=2, **USAGE), (THINK, "hm</think>" + DOG)),
    "a thought, calls": (CHAT, chat(tools=[TOOL], **LOGPROBS), (f"hm, well\n</think>\n\nNow {CALL}",)),
    "completion": (TEXT, {"model": MODEL, "prompt": "once", "stop": "rests", **USAGE}, (FOX,)),
    "echo": (TEXT, {"model": MODEL, "prompt": ["once", "twice"], "echo": True, "n": 2}, (FOX, DOG)),
    "older log-probabilities": (TEXT, {"model": MODEL, "prompt": [7, 8], "logprobs": 2}, (FOX,)),
}


BIRTH = Birth(RequestId("0" * 24), 1, 1, b"", (Life(ApiId("0" * 8)),))


def goes_on(*texts: str, until: int = 1000) -> Play:
    """Says the texts from where the task is on, some tokens at a time; no more than `until` tokens of each."""

    async def play(actor: Actor, task: Task) -> None:
        chance = Random(f"{task.request}")  # how tokens are grouped is to differ
        voices = [ids_of(text) for text in texts]
        at = [made.count for made in task.made] or [0] * len(voices)
        whole = all(len(voice) <= until for voice in voices)
        await actor.start(task)
        while open_voices := [
            index for index in range(len(voices)) if at[index] < len(voices[index][:until])
        ]:
            index = chance.choice(open_voices)
            ids = voices[index][:until][at[index] :][: chance.randint(1, 4)]
            words = [word(task, index, at[index] + offset, each) for offset, each in enumerate(ids)]
            await actor.send(task, together(words))
            at[index] += len(ids)
        if whole:
            await actor.send(task, *ends(task, [len(voice) for voice in voices]))

    return play


def together(words: list[Tokens]) -> Tokens:
    first = words[0]
    ids = b"".join(each.ids for each in words)
    logprobs = (
        None if first.logprobs is None else tuple(each for word in words for each in word.logprobs or ())
    )
    return Tokens(first.request, first.attempt, first.index, first.offset, ids, logprobs)


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


@pytest.fixture
async def beside(stage: Stage, connect_bus: ConnectBus) -> AsyncIterator[httpx.AsyncClient]:
    """Another API of the cluster."""
    async with api_beside(await connect_bus("n2")) as client:
        yield client


async def ask(client: httpx.AsyncClient, path: str, body: dict[str, Any], last: str = "") -> list[Event]:
    """All events of a stream; `last`: the id that the client has."""
    headers = {"last-event-id": last} if last else {}
    response = await client.post(path, json=body | {"stream": True}, headers=headers)
    assert response.status_code == 200, response.text
    return events_in(response.text)


async def forget_chunks(bus: Bus) -> None:
    await bus.connection.jetstream.purge_stream("troupe_out")


@pytest.mark.parametrize("case", CASES)
async def test_resumed_equals_whole_wherever_it_is_cut(
    case: str, stage: Stage, beside: httpx.AsyncClient
) -> None:
    path, body, texts = CASES[case]
    chance = Random(case)
    await use(stage, THOUGHT_BEGUN if "thought" in case else THINKS)
    async with stage.actor(goes_on(*texts)) as actor:
        events = await ask(stage.http, path, body)
        whole, begun = Tale(events), len(actor.tasks)
        assert all(event.id for event in events) and whole.dones == 1 and not whole.errors
        for cut in chance.sample(range(1, len(events)), min(5, len(events) - 1)):
            last, seen = up_to(events, cut)
            client = chance.choice([stage.http, beside])
            assert Tale([*seen, *await ask(client, path, body, last)]) == whole, f"{cut} events were seen"
        assert case == "one call" or len(actor.tasks) == begun, "what is kept is not made again"
        await forget_chunks(stage.bus)
        for cut in chance.sample(range(1, len(events)), min(3, len(events) - 1)):
            last, seen = up_to(events, cut)
            rest = await ask(beside, path, body, last)
            assert Tale([*seen, *rest]) == whole, f"{cut} events were seen, and no chunk is kept"
            if rest[:-1]:
                last, more = up_to(rest, chance.randint(1, len(rest) - 1))
                assert Tale([*seen, *more, *await ask(stage.http, path, body, last)]) == whole, "cut twice"


async def test_what_is_made_goes_on_with_the_same_seed(stage: Stage, beside: httpx.AsyncClient) -> None:
    """The first runner stopped in the middle; whoever resumes needs no token again."""
    async with stage.actor(goes_on(FOX, DOG, until=5)) as actor:
        body = chat(n=2, stream=True)
        seen = await read_some(stage.http, body, 3)
        await actor.played.wait()
        actor.play = goes_on(FOX, DOG)
        rest = await ask(beside, CHAT, body, seen[-1].id)
    first, second = actor.tasks
    assert [made.count for made in second.made] == [5, 5]
    assert (first.sampling, first.prompt) == (second.sampling, second.prompt)
    assert first.request != second.request and second.request.startswith(f"{first.request}-r")
    tale = Tale([*seen, *rest])
    assert [tale.choices[index]["content"] for index in range(2)] == [FOX, DOG]
    assert len(tale.about) == 1 and tale.dones == 1


async def read_some(client: httpx.AsyncClient, body: dict[str, Any], events: int) -> list[Event]:
    """So many events: as few as are sure to come, however the words are cut."""
    text = ""
    async with client.stream("POST", CHAT, json=body) as response:
        async for more in response.aiter_text():
            text += more
            if text.count("\n\n") >= events:
                break
    return events_in(text)


async def test_the_client_hears_something_before_what_is_kept_is_read(
    stage: Stage, beside: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, read, body = asyncio.Event(), list[str](), chat(stream=True)

    async def once_heard(bus: Bus, api: ApiId) -> AsyncGenerator[Stored]:
        await heard.wait()
        read.append(api)
        async for frame in kept(bus, api):
            yield frame

    async with stage.actor(goes_on(FOX)):
        events = await ask(stage.http, CHAT, body)
        last, seen = up_to(events, 3)
        monkeypatch.setattr("api.requests.readings.kept", once_heard)
        monkeypatch.setattr("api.requests.readings.DEADLINE_S", 100)
        async with beside.stream("POST", CHAT, json=body, headers={"last-event-id": last}) as response:
            coming = response.aiter_text()
            text = await anext(coming)
            assert text.startswith(": catching up\n") and not read
            heard.set()
            text += "".join([more async for more in coming])
    assert Tale([*seen, *events_in(text)]) == Tale(events)


async def test_the_first_owner_gives_the_answer_up(stage: Stage, beside: httpx.AsyncClient) -> None:
    """It does not know yet that its client has gone: one request ends, one goes on."""
    body, text = chat(stream=True), ""
    async with (
        stage.actor(goes_on(FOX, until=5)) as actor,
        stage.http.stream("POST", CHAT, json=body) as response,
    ):
        coming = response.aiter_text()
        while not events_in(text)[1:]:
            text += await anext(coming)
        await actor.played.wait()
        actor.play = goes_on(FOX)
        seen = events_in(text)
        rest = await ask(beside, CHAT, body, seen[-1].id)
        assert Tale([*seen, *rest]).choices[0]["content"] == FOX
        text += "".join([more async for more in coming])
        assert Tale(events_in(text)).errors == ["cancelled"]
        cancel = await actor.cancelled.get()
    assert cancel.request == actor.tasks[0].request


async def test_a_resumed_answer_is_cancelled_by_its_id(stage: Stage, beside: httpx.AsyncClient) -> None:
    body, text, answers = chat(stream=True), "", []
    async with stage.actor(goes_on(FOX, until=5)) as actor:
        last = (await read_some(stage.http, body, 2))[-1].id
        await actor.played.wait()
        actor.play = goes_on(FOX, until=9)
        async with beside.stream("POST", CHAT, json=body, headers={"last-event-id": last}) as response:
            async for more in response.aiter_text():
                text += more
                if "data: {" in more and not answers:
                    name = json.loads(events_in(text)[0].data)["id"]
                    answers.append((await stage.http.post(f"/v1/cancel/{name}")).status_code)
    assert answers == [200] and Tale(events_in(text)).errors == ["cancelled"]


NO_IDS = (
    "7",
    "garbage:1.0.0",
    "ID",
    "ID:1.0",
    "ID:1.0.0:1.0.0",
    "ID:1.0.0:end:end",
    "AAAAID:1.0.0",
    "ID:1.0.0:-1",
)


async def test_an_id_is_one_of_this_cluster_and_of_one_body(stage: Stage) -> None:
    async def refused(body: dict[str, Any], last: str) -> tuple[int, str]:
        response = await stage.http.post(CHAT, json=body, headers={"last-event-id": last})
        error = response.json()["error"]
        assert error["param"] == "Last-Event-ID"
        return response.status_code, error["code"]

    async with stage.actor(goes_on(FOX)) as actor:
        last = (await ask(stage.http, CHAT, chat()))[3].id
        stem = last.split(":")[0]
        for wrong in NO_IDS:
            assert await refused(chat(stream=True), wrong.replace("ID", stem)) == (400, "invalid_value"), (
                wrong
            )
        forged = Seal(b"of another cluster").stem(BIRTH, json.dumps(chat(stream=True)).encode())
        for body, wrong in (
            (chat("another", stream=True), last),
            (chat(stream=True, temperature=0.5), last),
            (chat(stream=True), f"{forged}:1.0.0"),
        ):
            assert await refused(body, wrong) == (409, "event_of_another_request")
        assert await refused(chat(), last) == (400, "invalid_value"), "a whole answer has no events"
        assert len(actor.tasks) == 1


async def test_another_model_does_not_go_on(stage: Stage) -> None:
    async with stage.actor(goes_on(FOX)) as actor:
        last = (await ask(stage.http, CHAT, chat()))[3].id
        await stage.describe(context=999)
        response = await stage.http.post(CHAT, json=chat(stream=True), headers={"last-event-id": last})
        assert (response.status_code, response.json()["error"]["code"]) == (409, "model_changed")
        assert len(actor.tasks) == 1


async def test_another_answer_is_no_continuation(stage: Stage) -> None:
    """What is made again is not what was told: the client is not given a mixture of both."""
    async with stage.actor(goes_on(FOX)) as actor:
        events = await ask(stage.http, CHAT, chat())
        await forget_chunks(stage.bus)
        actor.play = goes_on(FOX.replace("quick", "brisk"))
        headers = {"last-event-id": events[-3].id}
        response = await stage.http.post(CHAT, json=chat(stream=True), headers=headers)
    assert "answer_diverged" in response.text, "as an event, if a comment came before"
    assert "content" not in response.text


async def test_a_later_attempt_counts_from_where_it_went_on(stage: Stage) -> None:
    """Chunks of an attempt that its owner had given up are kept too: they are nobody's words."""
    ids = ids_of(FOX)

    async def stalls(actor: Actor, task: Task) -> None:
        await actor.start(task)
        await actor.tokens(task, ids[:4])

    async with stage.actor(stalls) as actor:
        seen = await read_some(stage.http, chat(stream=True), 2)
        (task,) = actor.tasks
        late = Tokens(task.request, 1, 0, 4, pack_ids(ids_of("WRONG")))
        await actor.send(task, late, Tokens(task.request, 2, 0, 4, pack_ids(ids[4:6])))
        await stage.bus.connection.client.flush()
        actor.play = goes_on(FOX)
        rest = await ask(stage.http, CHAT, chat(), seen[-1].id)
    assert actor.tasks[1].made[0].ids == pack_ids(ids[:6])
    assert Tale([*seen, *rest]).choices[0]["content"] == FOX
