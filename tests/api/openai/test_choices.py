"""Several choices in one answer, each with its own words, end, stop strings and log-probabilities."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionTokenLogprob

from bus.bus import Bus
from schemas.chunks import Failed, SequenceEnded
from schemas.task import Task
from tests.api.parts import TIMINGS, ends, logprob_of, speaks, word
from tests.api.stage import CONTEXT, END, MODEL, Actor, Stage, chat, events_of, ids_of, says, staged, stalls

USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
PATH = "/v1/chat/completions"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


async def test_the_task_has_all_that_was_asked_for(stage: Stage) -> None:
    async with stage.actor(speaks("x", "y")) as actor:
        await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, n=2, temperature=0.7, top_p=0.8, seed=9, presence_penalty=1,
            frequency_penalty=-1, logit_bias={"5": 10}, logprobs=True, top_logprobs=3, service_tier="flex",
            extra_body={
                "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.2, "min_tokens": 3, "ignore_eos": True,
                "guided_regex": "[xy]",
            },
        )  # fmt: skip
    task = actor.tasks[0]
    assert (task.n, task.min_tokens, task.stop_ids, task.logprobs, task.lane) == (2, 3, (), 3, "batch")
    assert (task.sampling.top_k, task.sampling.min_p, task.sampling.repetition_penalty) == (40, 0.1, 1.2)
    assert (task.sampling.presence_penalty, task.sampling.frequency_penalty) == (1, -1)
    assert (task.sampling.logit_bias, task.sampling.seed, task.sampling.top_p) == (((5, 10.0),), 9, 0.8)
    assert task.grammar is not None
    assert (task.grammar.kind, task.grammar.source) == ("regex", "[xy]")


async def test_choices_come_whole(stage: Stage) -> None:
    async with stage.actor(speaks("hello", "the quick brown fox", "东京", reasons=("length",))):
        answer = await stage.openai.chat.completions.create(model=MODEL, messages=USER, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == ["hello", "the quick brown fox", "东京"]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "stop", "stop"]
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    tokens = sum(len(ids_of(text)) for text in ("hello", "the quick brown fox", "东京"))
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (tokens, 2)
    assert answer.service_tier is None


async def test_choices_come_streamed(stage: Stage) -> None:
    async with stage.actor(speaks("hello", "the quick", reasons=("stop", "length"))):
        stream = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, n=2, stream=True, stream_options={"include_usage": True},
            service_tier="priority",
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
    *spoken, cost = chunks
    assert cost.usage is not None and cost.choices == []
    roles = [chunk.choices[0].index for chunk in spoken if chunk.choices[0].delta.role]
    assert roles == [0, 1]
    assert texts_of(spoken) == {0: "hello", 1: "the quick"}
    finishes = {
        each.choices[0].index: each.choices[0].finish_reason
        for each in spoken
        if each.choices[0].finish_reason
    }
    assert finishes == {0: "stop", 1: "length"}
    assert {chunk.service_tier for chunk in chunks} == {"priority"}


def texts_of(chunks: list[ChatCompletionChunk]) -> dict[int, str]:
    texts: dict[int, str] = defaultdict(str)
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    return dict(texts)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_string_ends_one_choice_only(stage: Stage, stream: bool) -> None:
    """The other one goes on after the first was cancelled by its index."""
    goes_on = asyncio.Event()

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        first, second = ids_of("hello world"), ids_of("the quick brown fox")
        for offset, token_id in enumerate(first):
            await actor.send(task, word(task, 0, offset, token_id))
        await actor.send(task, word(task, 1, 0, second[0]))
        await goes_on.wait()
        await actor.send(task, SequenceEnded(task.request, task.attempt, 0, "cancelled"))
        for offset, token_id in enumerate(second[1:], 1):
            await actor.send(task, word(task, 1, offset, token_id))
        await actor.send(task, *ends(task, [len(first), len(second)], ("cancelled",)))

    async with stage.actor(play) as actor:
        asking = asyncio.create_task(stage.http.post(PATH, json=chat(n=2, stop=" w", stream=stream)))
        cancel = await actor.cancelled.get()
        goes_on.set()
        response = await asking
    assert (cancel.request, cancel.index) == (response.headers["x-request-id"], 0)
    if stream:
        choices = [json.loads(event)["choices"][0] for event in events_of(response.text)[:-1]]
        said = [
            "".join(c["delta"].get("content", "") for c in choices if c["index"] == index) for index in (0, 1)
        ]
        assert said == ["hello", "the quick brown fox"]
        assert [c["index"] for c in choices if c["finish_reason"] == "stop"] == [0, 1]
    else:
        shown = response.json()["choices"]
        assert [choice["message"]["content"] for choice in shown] == ["hello", "the quick brown fox"]


async def test_when_all_choices_are_stopped_the_request_is_over(stage: Stage) -> None:
    """Whatever the runner would still have said."""

    async def play(actor: Actor, task: Task) -> None:
        await actor.start(task)
        for index in range(2):
            for offset, token_id in enumerate(ids_of("hello world")):
                await actor.send(task, word(task, index, offset, token_id))

    async with stage.actor(play) as actor:
        response = await stage.http.post(PATH, json=chat(n=2, stop=" "))
        cancels = [await actor.cancelled.get()]
        while cancels[-1].index is not None:
            cancels.append(await actor.cancelled.get())
    assert [choice["message"]["content"] for choice in response.json()["choices"]] == ["hello", "hello"]
    assert {cancel.request for cancel in cancels} == {response.headers["x-request-id"]}


# Log-probabilities


async def logprobs_of(stage: Stage, text: str, **more: object) -> list[ChatCompletionTokenLogprob]:
    async with stage.actor(speaks(text)):
        answer = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, logprobs=True, top_logprobs=2, extra_body=more
        )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    return logprobs.content


async def test_logprobs_whole(stage: Stage) -> None:
    text = "hello 東 \N{GRINNING FACE}"
    shown = await logprobs_of(stage, text)
    ids = ids_of(text)
    assert [token.logprob for token in shown] == [logprob_of(token_id) for token_id in ids]
    assert b"".join(bytes(token.bytes or []) for token in shown).decode() == text
    assert shown[0].token == "hello"
    assert {
        token.token[:2] for token in shown if len(token.bytes or []) == 1 and (token.bytes or [0])[0] > 127
    } <= {"\\x"}
    assert [(top.token, top.logprob, top.bytes) for top in shown[0].top_logprobs] == [
        ("<|im_start|>", 0.0, None),
        ("<|im_end|>", -0.001, None),
    ]


@pytest.mark.parametrize("stop", [None, ["lazy"], ["never here"], ["\N{GRINNING FACE}"], ["o"]])
async def test_streamed_logprobs_stand_beside_their_text(stage: Stage, stop: list[str] | None) -> None:
    text = "the quick 東京 \N{GRINNING FACE} over the lazy"
    async with stage.actor(speaks(text)):
        stream = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, logprobs=True, stream=True, stop=stop
        )
        chunks = [chunk async for chunk in stream]
    said = texts_of(chunks)[0]
    assert said == (text.split(stop[0], maxsplit=1)[0] if stop else text)
    sent, spoken = "", b""
    for chunk in chunks:
        choice = chunk.choices[0]
        sent += choice.delta.content or ""
        for token in (choice.logprobs and choice.logprobs.content) or []:
            assert token.top_logprobs == []
            spoken += bytes(token.bytes or [])
        if not stop:
            assert sent.encode().startswith(spoken), "no token is shown before its text"
    assert spoken.startswith(said.encode())


async def test_control_tokens_and_wild_values(stage: Stage) -> None:
    """A control token that is no end (`ignore_eos`) has no bytes; a bias may make a log-probability -inf."""
    async with stage.actor(speaks(ids=[END, *ids_of("hi")])):
        response = await stage.http.post(PATH, json=chat(logprobs=True, ignore_eos=True))
    content = response.json()["choices"][0]["logprobs"]["content"]
    assert (content[0]["token"], content[0]["bytes"]) == ("<|im_end|>", None)
    assert response.json()["choices"][0]["message"]["content"] == "hi"


# What else an answer can carry


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stop", [None, "l"])
async def test_timings_on_request(stage: Stage, stream: bool, stop: str | None) -> None:
    """They are waited for even when a stop string has ended the words before the runner did."""

    async def play(actor: Actor, task: Task) -> None:
        ids = ids_of("hello")
        await actor.start(task)
        for offset, token_id in enumerate(ids):
            await actor.send(task, word(task, 0, offset, token_id))
        if stop:
            await actor.cancelled.get()
        await actor.send(task, *ends(task, [len(ids)], ("cancelled" if stop else "stop",)))

    asked = chat(stream=stream, stop=stop, provider_extensions={"timings": True})
    async with stage.actor(play):
        response = await stage.http.post(PATH, json=asked)
        without = await stage.http.post(PATH, json=chat(stream=stream, stop=stop))
    last = json.loads(events_of(response.text)[-2]) if stream else response.json()
    assert last["timings"] == {
        "waited_s": TIMINGS.waited_s, "prefill_s": TIMINGS.prefill_s, "decode_s": TIMINGS.decode_s,
    }  # fmt: skip
    assert "timings" not in without.text


@pytest.mark.parametrize("bias", [{"-1": 1}, {"99999": 1}])
async def test_a_bias_for_no_token_is_refused(stage: Stage, bias: dict[str, int]) -> None:
    async with stage.actor(speaks("x")):
        response = await stage.http.post(PATH, json=chat(logit_bias=bias))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "logit_bias")
    assert next(iter(bias)) in response.json()["error"]["message"]


async def test_more_least_tokens_than_there_is_room(stage: Stage) -> None:
    async with stage.actor(speaks("x")):
        response = await stage.http.post(PATH, json=chat(min_tokens=CONTEXT))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "min_tokens")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_runner_that_forgets_log_probabilities(stage: Stage, stream: bool) -> None:
    async with stage.actor(says("hello")):
        response = await stage.http.post(PATH, json=chat(logprobs=True, stream=stream))
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_failed")


@pytest.mark.parametrize(
    ("reason", "param"),
    [("n is 9, and this instance makes 8", "n"), ("logprobs are asked for, and there are none", "logprobs")],
)
async def test_what_a_runner_refuses_is_named(stage: Stage, reason: str, param: str) -> None:
    async def play(actor: Actor, task: Task) -> None:
        await actor.send(task, Failed(task.request, task.attempt, "bad_request", reason))

    async with stage.actor(play):
        response = await stage.http.post(PATH, json=chat())
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_grammar_that_the_engine_refuses_is_named(stage: Stage, stream: bool) -> None:
    async def play(actor: Actor, task: Task) -> None:
        reason = "the grammar is none: unknown type 'strange'"
        await actor.send(task, Failed(task.request, task.attempt, "bad_request", reason))

    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strange"}}}
    async with stage.actor(play):
        response = await stage.http.post(PATH, json=chat(stream=stream, response_format=wanted))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "response_format")
    assert "strange" in error["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_waits_no_longer(stage: Stage, stream: bool) -> None:
    """The runner is told too; an answer that has begun ends with the error as an event."""
    async with stage.actor(stalls("hello")) as actor:
        response = await stage.http.post(PATH, json=chat(stream=stream), headers={"X-Troupe-Timeout": "1"})
        if actor.tasks:
            assert (await actor.cancelled.get()).request == response.headers["x-request-id"]
    begun = response.status_code == 200
    error = json.loads(events_of(response.text)[-2]) if begun else response.json()
    assert error["error"]["code"] == "deadline"
    assert begun or response.status_code == 504
    assert stream or not begun
