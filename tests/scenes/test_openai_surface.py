"""OpenAI's SDK against a node with its real engine: what is asked for is what happens, not only accepted."""

import asyncio
import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Literal

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, Field

from actors.engine import guide
from tests.api.tools.test_calls import TEMPLATE
from tests.nodes import NodeProcess, StartNode

COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count to 20"}]
TALK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "How do I see events?"}]

UNSURE = {"repetition_penalty": 8}
"""The guide is sure of its words; with this it is not."""


@pytest.fixture
async def node(start_node: StartNode) -> NodeProcess:
    return await start_node("a")


def client_of(node: NodeProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0)


def texts(answer: ChatCompletion) -> list[str]:
    return [choice.message.content or "" for choice in answer.choices]


async def test_chats_whole(node: NodeProcess) -> None:
    create = client_of(node).chat.completions.create
    greedy = await create(model="guide", messages=COUNT, temperature=0, logprobs=True, top_logprobs=3)

    # Log-probabilities are those of the tokens that were sent, and the greedy one is the likeliest.
    logprobs = greedy.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content).decode() == texts(greedy)[0]
    for token in logprobs.content:
        values = [top.logprob for top in token.top_logprobs]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert abs(values[0] - token.logprob) < 1e-4
        assert token.logprob <= 0

    # Several choices: the same when greedy, of their own when drawn; equal seeds, equal answers.
    drawn = [
        await create(
            model="guide", messages=TALK, n=3, temperature=2, seed=seed, max_tokens=12, extra_body=UNSURE
        )
        for seed in (7, 7, 8)
    ]
    assert texts(drawn[0]) == texts(drawn[1])
    assert texts(drawn[0]) != texts(drawn[2])
    assert len(set(texts(drawn[0]))) > 1
    assert drawn[0].usage is not None
    assert drawn[0].usage.completion_tokens <= 8 * 41
    same = await create(model="guide", messages=COUNT, n=2, temperature=0)
    assert texts(same) == texts(greedy) * 2
    one = await create(
        model="guide", messages=TALK, temperature=2, seed=1, max_tokens=12, extra_body={"top_k": 1}
    )
    assert texts(one)[0] == texts(await create(model="guide", messages=TALK, temperature=0, max_tokens=12))[0]
    tail = {"top_k": 10**6, "min_p": 1.0, "repetition_penalty": 1.0}
    likeliest = await create(model="guide", messages=TALK, temperature=2, max_tokens=12, extra_body=tail)
    assert texts(likeliest) == texts(one)

    # A stop string ends the text before it; a length is a length.
    stopped = await create(model="guide", messages=COUNT, temperature=0, stop=["7"])
    assert texts(stopped)[0] == texts(greedy)[0].split("7")[0]
    assert stopped.choices[0].finish_reason == "stop"
    long = await create(
        model="guide", messages=COUNT, temperature=0, max_tokens=90, extra_body={"ignore_eos": True}
    )
    assert long.usage is not None and long.usage.completion_tokens == 90
    assert long.choices[0].finish_reason == "length"
    assert texts(long)[0].startswith(texts(greedy)[0])
    at_least = await create(
        model="guide", messages=COUNT, temperature=0, max_tokens=90, extra_body={"min_tokens": 80}
    )
    assert at_least.usage is not None and at_least.usage.completion_tokens >= 80

    # A bias of -100 forbids a token, +100 forces it; a penalty keeps what was said from being said again.
    first = logprobs.content[0].token
    async with httpx.AsyncClient(base_url=node.info.api_url) as http:
        shown = (
            await http.post(
                "/tokenize", json={"model": "guide", "prompt": first, "add_special_tokens": False}
            )
        ).json()
        assert shown["count"] == 1
    banned = await create(
        model="guide", messages=COUNT, temperature=0, logit_bias={str(shown["tokens"][0]): -100}, logprobs=True,
        max_tokens=5,
    )  # fmt: skip
    assert banned.choices[0].logprobs is not None and banned.choices[0].logprobs.content is not None
    assert first not in [token.token for token in banned.choices[0].logprobs.content]
    forced = await create(
        model="guide", messages=COUNT, logit_bias={str(shown["tokens"][0]): 100}, max_tokens=4,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    assert texts(forced)[0] == first * 4
    said = [
        await create(
            model="guide", messages=COUNT, temperature=0, max_tokens=60, frequency_penalty=penalty,
            logit_bias={str(shown["tokens"][0]): 60}, extra_body={"ignore_eos": True},
        )
        for penalty in (0, 2)
    ]  # fmt: skip
    assert texts(said[0])[0] == first * 60
    assert 0 < texts(said[1])[0].count(first) < 60


async def test_chats_keep_to_a_form(node: NodeProcess) -> None:
    client = client_of(node)
    create = client.chat.completions.create
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 10},
            "age": {"type": "integer", "minimum": 1, "maximum": 99},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    answers = await asyncio.gather(
        create(
            model="guide", messages=TALK, max_tokens=600,
            response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
        ),
        create(model="guide", messages=TALK, max_tokens=600, extra_body={"guided_json": schema}),
        create(model="guide", messages=TALK, n=2, max_tokens=60, extra_body={"guided_regex": r"[a-f]{3}-\d{2}"}),
        create(model="guide", messages=TALK, n=2, max_tokens=60, extra_body={"guided_choice": ["yes", "no (never)"]}),
        create(model="guide", messages=TALK, max_tokens=60, extra_body={"guided_grammar": 'start: "ab"~2 /[0-9]/'}),
    )  # fmt: skip
    for answer in answers[:2]:
        person = json.loads(texts(answer)[0])
        assert set(person) == {"name", "age"} and 1 <= person["age"] <= 99
    assert all(re.fullmatch(r"[a-f]{3}-\d{2}", text) for text in texts(answers[2]))
    assert set(texts(answers[3])) <= {"yes", "no (never)"}
    assert re.fullmatch(r"abab[0-9]", texts(answers[4])[0])
    with pytest.raises(openai.BadRequestError) as caught:
        await create(
            model="guide", messages=TALK,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strange"}}},
        )  # fmt: skip
    assert caught.value.param == "response_format"
    with pytest.raises(openai.BadRequestError) as caught:
        await create(model="guide", messages=TALK, n=128)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError) as caught:
        await create(model="guide", messages=TALK, tools=[{"type": "function", "function": {"name": "look"}}])
    assert caught.value.param == "tools"


async def test_chats_streamed(node: NodeProcess) -> None:
    create = client_of(node).chat.completions.create
    whole = await create(
        model="guide", messages=TALK, n=3, temperature=1.5, seed=3, stop=["s"], max_tokens=30
    )
    stream = await create(
        model="guide", messages=TALK, n=3, temperature=1.5, seed=3, stop=["s"], max_tokens=30, stream=True,
        logprobs=True, stream_options={"include_usage": True}, service_tier="priority",
        extra_body={"provider_extensions": {"timings": True}}, extra_headers={"X-Troupe-Timeout": "60"},
    )  # fmt: skip
    said: dict[int, str] = defaultdict(str)
    spoken: dict[int, bytes] = defaultdict(bytes)
    finishes: dict[int, str] = {}
    chunks = [chunk async for chunk in stream]
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            shown = choice.logprobs.content if choice.logprobs else None
            spoken[choice.index] += b"".join(bytes(token.bytes or []) for token in shown or [])
            if choice.finish_reason:
                finishes[choice.index] = choice.finish_reason
    assert [said[index] for index in range(3)] == texts(whole)
    assert [finishes[index] for index in range(3)] == [choice.finish_reason for choice in whole.choices]
    assert all(spoken[index].decode().startswith(said[index]) for index in range(3))
    last = chunks[-1]
    assert last.usage is not None and last.usage.prompt_tokens > 0
    assert last.service_tier == "priority"
    assert last.model_extra is not None and last.model_extra["timings"]["decode_s"] > 0


class Person(BaseModel):
    """What the SDK makes a schema of."""

    name: Literal["ann", "bob"]
    age: int = Field(ge=1, le=120)


async def test_the_sdks_helpers(node: NodeProcess) -> None:
    client = client_of(node)
    parsed = await client.chat.completions.parse(model="guide", messages=TALK, response_format=Person)
    assert isinstance(parsed.choices[0].message.parsed, Person)
    async with client.chat.completions.stream(
        model="guide",
        messages=COUNT,
        temperature=0,
        n=2,
        logprobs=True,
        response_format=Person,
        max_tokens=600,
    ) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    assert isinstance(final.choices[1].message.parsed, Person)
    raw = await client.chat.completions.with_raw_response.create(model="guide", messages=COUNT, max_tokens=1)
    assert raw.headers["x-request-id"] in raw.parse().id


async def test_forced_calls(start_node: StartNode, tmp_path: Path) -> None:
    """The guide with a template that knows tools: small as it is, by its grammar it calls them."""
    folder = tmp_path / "caller"
    shutil.copytree(Path(guide.__file__).parent / "model", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    client = client_of(await start_node("a", "--model", str(folder)))
    (model,) = [model.id async for model in client.models.list()]
    properties = {"unit": {"enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}
    parameters = {
        "type": "object", "properties": properties, "required": ["unit", "days"], "additionalProperties": False,
    }  # fmt: skip
    tools: list[ChatCompletionToolParam] = [
        {"type": "function", "function": {"name": name, "parameters": dict(parameters)}}
        for name in ("sun", "rain")
    ]
    whole = await client.chat.completions.create(
        model=model,
        messages=COUNT,
        tools=tools,
        tool_choice="required",
        n=2,
        seed=4,
        parallel_tool_calls=False,
    )
    for choice in whole.choices:
        assert choice.finish_reason == "tool_calls" and choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function" and call.function.name in ("sun", "rain")
        arguments = json.loads(call.function.arguments)
        assert arguments["unit"] in ("C", "F") and 1 <= arguments["days"] <= 9
    async with client.chat.completions.stream(
        model=model, messages=COUNT, tools=tools, parallel_tool_calls=False,
        tool_choice={"type": "function", "function": {"name": "rain"}},
    ) as stream:  # fmt: skip
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert [call.function.name for call in final.choices[0].message.tool_calls] == ["rain"]


async def test_completions(node: NodeProcess) -> None:
    client = client_of(node)
    create = client.completions.create
    async with httpx.AsyncClient(base_url=node.info.api_url) as http:
        chat = (await http.post("/tokenize", json={"model": "guide", "messages": COUNT})).json()
        text = (await http.post("/detokenize", json={"model": "guide", "tokens": chat["tokens"]})).json()[
            "prompt"
        ]
        again = (await http.post("/tokenize", json={"model": "guide", "prompt": text})).json()
    assert again["tokens"] == chat["tokens"], "the rendered chat, control tokens and all"
    assert chat["max_model_len"] > chat["count"] == len(chat["tokens"])

    answer = await client.chat.completions.create(model="guide", messages=COUNT, temperature=0)
    by_ids = await create(model="guide", prompt=chat["tokens"], temperature=0, max_tokens=100, logprobs=2)
    by_text = await create(model="guide", prompt=text, temperature=0, max_tokens=100, echo=True)
    assert by_ids.choices[0].text == texts(answer)[0]
    assert by_text.choices[0].text == text + texts(answer)[0]
    logprobs = by_ids.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens and logprobs.text_offset and logprobs.top_logprobs
    assert "".join(logprobs.tokens) == by_ids.choices[0].text
    assert all(
        by_ids.choices[0].text[at:].startswith(word)
        for at, word in zip(logprobs.text_offset, logprobs.tokens, strict=True)
    )
    assert all(len(top) in (2, 3) for top in logprobs.top_logprobs)

    # A search finds at least what is likeliest word by word, and the best first; it comes at the end of a stream.
    endless = {"ignore_eos": True}
    beams = {"use_beam_search": True, "beam_width": 4, "length_penalty": 0} | endless
    unsure = {"model": "guide", "prompt": "actors ", "max_tokens": 12, "temperature": 0, "logprobs": 0}
    greedy = await create(**unsure, extra_body=endless)
    searched = await create(**unsure, n=3, extra_body=beams)
    scores = [sum(choice.logprobs.token_logprobs or []) for choice in (*greedy.choices, *searched.choices)]  # type: ignore[misc, union-attr]
    assert scores[1] > scores[0] - 1e-3
    assert scores[1:] == sorted(scores[1:], reverse=True)
    found = [choice.text for choice in searched.choices]
    assert len(set(found)) == 3
    told: dict[int, str] = defaultdict(str)
    async for chunk in await create(**unsure, n=3, extra_body=beams, stream=True):
        for choice in chunk.choices:
            told[choice.index] += choice.text
    assert [told[index] for index in range(3)] == found

    prompts = ["actors ", "The cluster ", "NATS "]
    whole = await create(model="guide", prompt=prompts, n=2, seed=5, max_tokens=8)
    stream = await create(model="guide", prompt=prompts, n=2, seed=5, max_tokens=8, stream=True)
    streamed: dict[int, str] = defaultdict(str)
    async for chunk in stream:
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert [choice.index for choice in whole.choices] == list(range(6))
    assert [streamed[index] for index in range(6)] == [choice.text for choice in whole.choices]
    assert whole.usage is not None and whole.usage.prompt_tokens >= 3
