"""Tools and thoughts over HTTP with OpenAI's SDK: a model whose template knows both."""

import json
from collections.abc import AsyncIterator

import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from bus.bus import Bus
from schemas.events import ModelDescribed
from schemas.task import unpack_ids
from tests.api.parts import speaks
from tests.api.stage import MODEL, TOKENIZER, Stage, artifact, card, chat, events_of, says, spec, staged

PATH = "/v1/chat/completions"
USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}Call as <tool_call></tool_call>.\n{% endif %}"
    "{% for message in messages %}{{ message.role + ': ' + message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\n"
    "{% endfor %}assistant: "
)
THINKS = TEMPLATE + "{% if false %}<think></think>{% endif %}"
THOUGHT_BEGUN = TEMPLATE + "<think>\n"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
SECOND = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        await use(stage, TEMPLATE)
        yield stage


async def use(stage: Stage, template: str) -> None:
    """The model has this template from now on."""
    described = msgspec.structs.replace(card(), artifact=f"parrot-{abs(hash(template)):016x}")
    await stage.bus.artifacts.put(described.artifact, artifact(template))
    await stage.seen(
        await stage.bus.log.record(ModelDescribed(model=MODEL, source=spec(MODEL).source, card=described))
    )


async def test_a_call_whole(stage: Stage) -> None:
    async with stage.actor(says("Let me see. " + CALL)) as actor:
        answer = await stage.openai.chat.completions.create(model=MODEL, messages=USER, tools=[TOOL])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})
    assert call.id
    prompt = TOKENIZER.decode(unpack_ids(actor.tasks[0].prompt))
    assert "How it is" in prompt
    assert actor.tasks[0].grammar is None, "the choice is the model's"


async def test_calls_streamed(stage: Stage) -> None:
    async with stage.actor(says(CALL + "\n" + SECOND)):
        stream = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, tools=[TOOL], stream=True
        )
        chunks = [chunk.choices[0] async for chunk in stream]
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for delta in chunk.delta.tool_calls or []:
            assert delta.function is not None
            if delta.id:
                assert (delta.type, delta.function.name) == ("function", "weather")
                calls[delta.index] = []
            calls[delta.index].append(delta.function.arguments or "")
    assert [json.loads("".join(pieces)) for pieces in calls.values()] == [{"city": "Bonn"}, {"city": "Rome"}]
    assert chunks[-1].finish_reason == "tool_calls"
    assert "".join(chunk.delta.content or "" for chunk in chunks) == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_one_call_at_a_time(stage: Stage, stream: bool) -> None:
    """The runner is told to stop after the first; nothing of the second is shown."""
    asked = chat(tools=[TOOL], parallel_tool_calls=False, stream=stream)
    async with stage.actor(says(CALL + SECOND)):
        response = await stage.http.post(PATH, json=asked)
    assert "Rome" not in response.text
    assert response.text.count('"id":"call_') == 1
    assert '"finish_reason":"tool_calls"' in response.text


@pytest.mark.parametrize(
    ("choice", "rule"),
    [("required", "weather"), ({"type": "function", "function": {"name": "weather"}}, "weather")],
)
async def test_a_forced_call_is_a_grammar(stage: Stage, choice: object, rule: str) -> None:
    async with stage.actor(says(CALL)) as actor:
        response = await stage.http.post(PATH, json=chat(tools=[TOOL], tool_choice=choice))
    assert response.json()["choices"][0]["message"]["content"] is None
    grammar = actor.tasks[0].grammar
    assert grammar is not None and grammar.kind == "lark"
    assert rule in grammar.source


async def test_a_schema_beside_tools_leaves_the_choice(stage: Stage) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    async with stage.actor(says('{"a": 1}')) as actor:
        response = await stage.http.post(PATH, json=chat(tools=[TOOL], response_format=schema))
    assert response.json()["choices"][0]["message"]["content"] == '{"a": 1}'
    grammar = actor.tasks[0].grammar
    assert grammar is not None
    assert grammar.source.startswith('start: words | calls\nwords: %json {"type":"object"}\ncalls: ')


async def test_calls_of_each_choice_are_its_own(stage: Stage) -> None:
    async with stage.actor(speaks(CALL, "No need.")):
        answer = await stage.openai.chat.completions.create(model=MODEL, messages=USER, tools=[TOOL], n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["tool_calls", "stop"]
    assert answer.choices[1].message.content == "No need."
    assert not answer.choices[1].message.tool_calls


async def test_without_a_choice_text_is_text(stage: Stage) -> None:
    async with stage.actor(says(CALL)) as actor:
        response = await stage.http.post(PATH, json=chat(tools=[TOOL], tool_choice="none"))
    assert response.json()["choices"][0]["message"]["content"] == CALL
    assert "How it is" not in TOKENIZER.decode(unpack_ids(actor.tasks[0].prompt))


async def test_what_came_of_a_call_goes_to_the_model(stage: Stage) -> None:
    called = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Bonn"}'},
    }
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    async with stage.actor(says("wet")) as actor:
        await stage.http.post(PATH, json=chat(tools=[TOOL]) | {"messages": messages})
    prompt = TOKENIZER.decode(unpack_ids(actor.tasks[0].prompt))
    assert '"arguments": {"city": "Bonn"}' in prompt
    assert "tool: rain" in prompt


async def test_a_model_that_has_no_tools_says_so(stage: Stage) -> None:
    await use(stage, "{% for message in messages %}{{ message.content }}{% endfor %}")
    async with stage.actor(says("x")):
        with pytest.raises(openai.BadRequestError) as caught:
            await stage.openai.chat.completions.create(model=MODEL, messages=USER, tools=[TOOL])
    assert caught.value.param == "tools"


# Thoughts


@pytest.mark.parametrize(("template", "begin"), [(THINKS, "<think>"), (THOUGHT_BEGUN, "")])
@pytest.mark.parametrize("stream", [True, False])
async def test_thoughts_stand_apart(stage: Stage, template: str, begin: str, stream: bool) -> None:
    await use(stage, template)
    async with stage.actor(says(f"{begin}the dog is lazy</think>\n\nhello world")):
        response = await stage.http.post(PATH, json=chat(stream=stream))
    if stream:
        deltas = [json.loads(event)["choices"][0]["delta"] for event in events_of(response.text)[:-1]]
        said = {
            name: "".join(each.get(name, "") for each in deltas) for name in ("reasoning_content", "content")
        }
    else:
        said = response.json()["choices"][0]["message"]
    assert (said["reasoning_content"], said["content"]) == ("the dog is lazy", "hello world")


async def test_thought_call_and_log_probabilities_together(stage: Stage) -> None:
    await use(stage, THINKS)
    text = f"<think>the dog</think>{CALL}"
    async with stage.actor(speaks(text)):
        answer = await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, tools=[TOOL], logprobs=True
        )
    message = answer.choices[0].message
    assert message.tool_calls is not None and message.model_extra is not None
    assert message.model_extra["reasoning_content"] == "the dog"
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content).decode() == text


async def test_a_schema_is_kept_to_after_the_thought(stage: Stage) -> None:
    await use(stage, THOUGHT_BEGUN)
    async with stage.actor(says('hm</think>{"a": 1}')) as actor:
        response = await stage.http.post(PATH, json=chat(guided_json={"type": "object"}))
    message = response.json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm", '{"a": 1}')
    grammar = actor.tasks[0].grammar
    assert grammar is not None
    assert grammar.source.startswith('start: thought /\\s*/ words\nwords: %json {"type":"object"}\n')


async def test_tokenize_with_tools(stage: Stage) -> None:
    messages = [{"role": "user", "content": "hello"}]
    response = await stage.http.post(
        "/tokenize", json={"model": MODEL, "messages": messages, "tools": [TOOL]}
    )
    assert "How it is" in TOKENIZER.decode(response.json()["tokens"])


async def test_variables_of_the_template(stage: Stage) -> None:
    await use(
        stage, TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}in short: {% endif %}"
    )
    async with stage.actor(says("x")) as actor:
        await stage.openai.chat.completions.create(
            model=MODEL, messages=USER, extra_body={"chat_template_kwargs": {"enable_thinking": False}}
        )
        refused = [
            await stage.http.post(PATH, json=chat(chat_template_kwargs=variables))
            for variables in ({"enable_thoughts": False}, {"messages": []})
        ]
    assert TOKENIZER.decode(unpack_ids(actor.tasks[0].prompt)).endswith("in short: ")
    assert {(each.status_code, each.json()["error"]["param"]) for each in refused} == {
        (400, "chat_template_kwargs")
    }
