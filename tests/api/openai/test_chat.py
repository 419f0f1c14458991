"""Chats over HTTP with OpenAI's SDK: a real bus, a real server, instances that play their part."""

import asyncio
import json
from collections.abc import AsyncIterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from bus.bus import Bus
from schemas.refused import Refused
from schemas.task import Task, unpack_ids
from tests.api.stage import (
    CONTEXT,
    END,
    MODEL,
    TOKENIZER,
    Actor,
    Stage,
    chat,
    events_of,
    ids_of,
    says,
    silent,
    staged,
    stalls,
)

TEXT = "The quick 東京 \N{GRINNING FACE} fox"
USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


async def test_without_stream(stage: Stage) -> None:
    async with stage.actor(says(TEXT)) as actor:
        answer = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, temperature=0, seed=-5, max_tokens=50
        )
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == MODEL
    assert answer.system_fingerprint == "fp_0123456789abcdef"
    task = actor.tasks[0]
    prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert unpack_ids(task.prompt) == TOKENIZER.encode(prompt, add_special_tokens=False).ids
    assert (task.sampling.temperature, task.sampling.top_p, task.sampling.seed) == (0.0, 1.0, 2**64 - 5)
    assert (task.max_tokens, task.stop_ids, task.model) == (50, (END,), MODEL)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(unpack_ids(task.prompt))
    assert answer.usage.completion_tokens == len(ids_of(TEXT))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_streamed(stage: Stage) -> None:
    async with stage.actor(says(TEXT, "length")):
        stream = await stage.openai.chat.completions.create(
            model=MODEL,
            messages=USER,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    *words, last, cost = chunks
    assert words[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in words) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in words] == [None] * len(words)
    assert (last.choices[0].finish_reason, last.choices[0].delta.content) == ("length", None)
    assert cost.choices == []
    assert cost.usage is not None
    assert cost.usage.completion_tokens == len(ids_of(TEXT))
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_the_events_as_they_are(stage: Stage) -> None:
    async with stage.actor(says("hello")):
        response = await stage.http.post("/v1/chat/completions", json=chat(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = events_of(response.text)
    assert done == "[DONE]"
    assert json.loads(events[0])["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert json.loads(events[-1])["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]
    assert all("usage" not in json.loads(event) for event in events)
    assert json.loads(events[0])["id"] == f"chatcmpl-{response.headers['x-request-id']}"


@pytest.mark.parametrize("stream", [True, False])
async def test_stop_strings_end_the_answer_and_the_work(stage: Stage, stream: bool) -> None:
    async with stage.actor(stalls("hello hello world the end")) as actor:
        asked = chat(stop=["lo wor", "never"], stream=stream)
        response = await stage.http.post("/v1/chat/completions", json=asked)
        cancelled = await actor.cancelled.get()
    assert cancelled.request == response.headers["x-request-id"]
    if stream:
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events_of(response.text)[:-1]]
        assert "".join(delta.get("content", "") for delta in deltas) == "hello hel"
    else:
        assert response.json()["choices"][0]["message"]["content"] == "hello hel"
        assert response.json()["choices"][0]["finish_reason"] == "stop"


async def test_an_empty_answer(stage: Stage) -> None:
    async with stage.actor(says("")):
        response = await stage.http.post("/v1/chat/completions", json=chat())
        streamed = await stage.http.post("/v1/chat/completions", json=chat(stream=True))
    assert response.json()["choices"][0]["message"]["content"] == ""
    assert len(events_of(streamed.text)) == 3


async def test_max_tokens_is_the_rest_of_the_context_unless_told(stage: Stage) -> None:
    async with stage.actor(says("x")) as actor:
        await stage.http.post("/v1/chat/completions", json=chat())
        await stage.http.post("/v1/chat/completions", json=chat(max_completion_tokens=7))
    assert actor.tasks[0].max_tokens == CONTEXT - len(actor.tasks[0].prompt) // 4
    assert actor.tasks[1].max_tokens == 7
    assert actor.tasks[0].sampling.seed != actor.tasks[1].sampling.seed, "no default seed"


async def test_too_long_names_both_numbers(stage: Stage) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await stage.openai.chat.completions.create(model=MODEL, messages=USER, max_tokens=CONTEXT)
    prompt = len(
        TOKENIZER.encode(
            "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
        ).ids
    )
    assert caught.value.code == "context_length_exceeded"
    for number in (CONTEXT, prompt, prompt + CONTEXT):
        assert f" {number} " in caught.value.message
    response = await stage.http.post("/v1/chat/completions", json=chat("é" * 9000, stream=True))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"


async def test_unknown_model_names_the_nearest(stage: Stage) -> None:
    for stream in (True, False):
        response = await stage.http.post(
            "/v1/chat/completions", json=chat(stream=stream) | {"model": "org/parot"}
        )
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
        assert f"'{MODEL}'" in response.json()["error"]["message"]


async def test_busy_instances_are_passed_over(stage: Stage) -> None:
    async with stage.actor(silent, "busy") as busy, stage.actor(says("hi"), "free"):
        busy.answer = Refused("busy", "no slot")
        for _ in range(4):
            response = await stage.http.post("/v1/chat/completions", json=chat())
            assert response.json()["choices"][0]["message"]["content"] == "hi"
    assert busy.tasks == []


async def test_the_least_busy_instance_is_asked_first(stage: Stage) -> None:
    taken: asyncio.Queue[str] = asyncio.Queue()

    async def play(actor: Actor, _task: Task) -> None:
        taken.put_nowait(actor.instance)

    async with stage.actor(play, "a"), stage.actor(play, "b"):
        asks = [asyncio.create_task(stage.http.post("/v1/chat/completions", json=chat())) for _ in range(6)]
        takers = [await taken.get() for _ in asks]
        assert takers.count("a") == takers.count("b") == 3
        for ask in asks:
            ask.cancel()
        await asyncio.wait(asks)


async def test_what_an_instance_refuses_for_good_is_a_400(stage: Stage) -> None:
    async with stage.actor(silent) as actor:
        actor.answer = Refused("bad_request", "this engine samples greedily only")
        response = await stage.http.post("/v1/chat/completions", json=chat())
    assert response.status_code == 400
    assert "greedily" in response.json()["error"]["message"]
