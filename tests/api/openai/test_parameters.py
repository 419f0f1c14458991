"""Every parameter of a chat request is honoured, neutral, or refused by name."""

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar.datastructures import Headers

from api.errors import ApiError
from api.openai.chat_parameters import NEUTRAL, NEUTRAL_MESSAGE, chat_wish, read_chat
from api.openai.completion_parameters import completion_wish, prompts_of, read_completion
from api.openai.tool_parameters import chat_prompt
from api.text.prompt import IdsPrompt, TextPrompt
from api.tools.grammar import NamedTool
from api.wish import Wish
from schemas.chat import ChatRequest, Message, Part
from schemas.completions import CompletionRequest
from schemas.task import Sampling

USER = {"role": "user", "content": "hi"}


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


def chosen(name: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name}}


def body(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [USER]} | fields)


def wish_of(**fields: object) -> Wish:
    return chat_wish(read_chat(body(**fields)), {})


def urged(headers: dict[str, str], tier: str | None = None) -> Wish:
    return chat_wish(read_chat(body(service_tier=tier)), Headers(headers))


def refusal(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        chat_wish(read_chat(raw), {})
    assert caught.value.status == 400
    return caught.value


def test_a_request_may_do_without_a_draft() -> None:
    assert wish_of().speculate
    assert wish_of(provider_extensions={"timings": True}).speculate
    assert not wish_of(provider_extensions={"speculation": False}).speculate


def test_what_is_honoured() -> None:
    request = read_chat(
        body(
            max_tokens=5, temperature=0, top_p=1, seed=-1, stop=["a", "b"], stream=True,
            stream_options={"include_usage": True}, user="u", metadata={"a": "b"},
        )
    )  # fmt: skip
    assert (request.limit, request.temperature, request.seed, request.stops) == (5, 0.0, -1, ("a", "b"))
    assert request.stream
    assert request.wants_usage


def test_all_that_steers_sampling_comes_through() -> None:
    wish = wish_of(
        n=3, temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, presence_penalty=-1, frequency_penalty=2,
        repetition_penalty=1.1, logit_bias={"7": -100, "5": 1.5}, seed=-1, min_tokens=2, ignore_eos=True,
        logprobs=True, top_logprobs=4,
    )  # fmt: skip
    assert wish.sampling == Sampling(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, presence_penalty=-1, frequency_penalty=2,
        repetition_penalty=1.1, logit_bias=((5, 1.5), (7, -100)), seed=2**64 - 1,
    )  # fmt: skip
    assert (wish.n, wish.min_tokens, wish.ignore_eos, wish.logprobs) == (3, 2, True, 4)


def test_what_is_left_out_changes_nothing() -> None:
    wish = wish_of(top_k=-1, logprobs=False, top_logprobs=0)
    assert wish.sampling == Sampling(seed=wish.sampling.seed)
    assert (wish.n, wish.logprobs, wish.grammar, wish.lane, wish.tier) == (1, -1, None, "normal", "")
    assert wish.sampling.seed != wish_of().sampling.seed, "no default seed"
    assert wish_of(logprobs=True).logprobs == 0


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ("json_schema", '{"type":"object"}')),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
            ("json_schema", json.dumps(SCHEMA, separators=(",", ":"))),
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, ("json_schema", "{}")),
        ({"guided_json": SCHEMA}, ("json_schema", json.dumps(SCHEMA, separators=(",", ":")))),
        ({"guided_json": json.dumps(SCHEMA)}, ("json_schema", json.dumps(SCHEMA))),
        ({"guided_json": None}, None),
        ({"guided_regex": "a+"}, ("regex", "a+")),
        ({"guided_grammar": 'start: "x"'}, ("lark", 'start: "x"')),
        ({"guided_choice": ["yes", "no (never)"]}, ("regex", r"yes|no\ \(never\)")),
    ],
)
def test_what_an_answer_keeps_to(fields: dict[str, object], grammar: tuple[str, str] | None) -> None:
    kept = wish_of(**fields).grammar
    assert (None if kept is None else (kept.kind, kept.source)) == grammar


@pytest.mark.parametrize(
    ("tier", "header", "lane", "shown"),
    [
        (None, None, "normal", ""),
        ("auto", None, "normal", "default"),
        ("flex", None, "batch", "flex"),
        ("priority", "HIGH", "high", "priority"),
        ("auto", "high", "high", "priority"),
        (None, "batch", "batch", "flex"),
    ],
)
def test_the_lane_is_that_of_tier_or_header(tier: str, header: str | None, lane: str, shown: str) -> None:
    wish = urged({"x-troupe-priority": header} if header else {}, tier)
    assert (wish.lane, wish.tier) == (lane, shown)


def test_patience_is_seconds() -> None:
    assert urged({"X-Troupe-Timeout": "0.5"}).timeout_s == 0.5


@pytest.mark.parametrize(
    ("headers", "tier", "param"),
    [
        ({"X-Troupe-Priority": "urgent"}, None, "X-Troupe-Priority"),
        ({"X-Troupe-Priority": "high"}, "flex", "service_tier"),
        *(({"X-Troupe-Timeout": value}, None, "X-Troupe-Timeout") for value in ("0", "-1", "nan", "inf", "", "1e9", "soon")),
    ],
)  # fmt: skip
def test_wrong_urgency_is_refused(headers: dict[str, str], tier: str | None, param: str) -> None:
    with pytest.raises(ApiError, match=param) as caught:
        urged(headers, tier)
    assert (caught.value.status, caught.value.param) == (400, param)


def completion(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "prompt": "hi"} | fields)


def test_prompts_are_texts_or_ids() -> None:
    for prompt, read in (
        ("a", [TextPrompt("a")]),
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
        ([1, 2], [IdsPrompt([1, 2])]),
        ([[1], [2, 3]], [IdsPrompt([1]), IdsPrompt([2, 3])]),
    ):
        assert prompts_of(read_completion(completion(prompt=prompt))) == read


def test_completions_have_their_own_defaults() -> None:
    asked = read_completion(completion(best_of=2, n=2, logprobs=0))
    wish = completion_wish(asked, {})
    assert (wish.limit, wish.n, wish.logprobs) == (16, 2, 0)
    assert completion_wish(read_completion(completion(top_k=3)), {}).sampling.top_k == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 2, "n": 100}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"messages": []}, "messages"),
    ],
)
def test_wrong_completions_are_refused_by_path(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_completion(completion(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.split("[", maxsplit=1)[0] in caught.value.message


def test_a_conversation_with_calls_is_read() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "content": "rain", "tool_call_id": "call_1", "name": "weather"},
    ]
    chat = read_chat(
        body(messages=messages, tools=[TOOL], tool_choice=chosen("weather"), parallel_tool_calls=False)
    )
    prompt = chat_prompt(chat)
    assert [message.given() for message in prompt.messages] == [
        USER,
        messages[1] | {"content": ""},
        messages[2],
    ]
    assert prompt.tools is not None and prompt.tools[0]["function"]["name"] == "weather"
    assert (prompt.calling.choice, prompt.calling.parallel) == (NamedTool("weather"), False)


def test_without_a_choice_the_model_is_not_told_of_tools() -> None:
    assert chat_prompt(read_chat(body(tools=[TOOL], tool_choice="none"))).tools is None


def test_content_is_a_string_or_text_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = read_chat(body(messages=[{"role": "user", "content": parts}]))
    assert request.messages[0].text == "ab"


def test_a_resent_answer_of_the_sdk_is_taken() -> None:
    answer = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None}
    answer |= {"function_call": None, "tool_calls": None}
    assert read_chat(body(messages=[USER, answer])).messages[1].text == "x"


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_unbuilt_parameters_take_their_neutral_values_only(name: str) -> None:
    for value in NEUTRAL[name].values:
        read_chat(body(**{name: value}))
    for value in ("surprise", 0.5, ["text", "audio"], {"type": "json_object"}, 2, "high"):
        error = refusal(body(**{name: value}))
        assert (error.param, error.code) == (name, "unsupported_parameter")
        assert name in error.message


def test_neutral_values_are_compared_by_kind() -> None:
    assert refusal(body(store=0)).param == "store"


@pytest.mark.parametrize("name", sorted(NEUTRAL_MESSAGE))
def test_unbuilt_fields_of_messages(name: str) -> None:
    for value in NEUTRAL_MESSAGE[name].values:
        read_chat(body(messages=[USER | {name: value}]))
    assert refusal(body(messages=[USER, USER | {name: "x"}])).param == f"messages[1].{name}"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "refusal", "video"])
def test_other_parts_are_refused_by_path(kind: str) -> None:
    part = {"type": kind} | ({} if kind == "video" else {kind: {"url": "x"}})
    content = [{"type": "text", "text": "look"}, part]
    assert (
        refusal(body(messages=[{"role": "user", "content": content}])).param == "messages[0].content[1].type"
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": [5]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"what": 1}}, "stream_options.what"),
        ({"user": 5}, "user"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [USER, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"messages": [USER, {"role": "king", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [USER | {"colour": "red"}]}, "messages[0].colour"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"messages": [{"role": "user", "content": "x", "name": "ann"}]}, "messages[0].name"),
        (
            {"messages": [{"role": "user", "content": "x", "reasoning_content": "hm"}]},
            "messages[0].reasoning_content",
        ),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": chosen("look")}, "tool_choice.function.name"),
        ({"tools": [TOOL], "tool_choice": "required", "guided_regex": "a"}, "guided_regex"),
        ({"tools": [TOOL], "guided_regex": "a"}, "guided_regex"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": True}, "n"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
        ({"ignore_eos": "yes"}, "ignore_eos"),
        ({"logit_bias": {"5": 101}}, "logit_bias[...]"),
        ({"logit_bias": {"five": 1}}, "logit_bias"),
        ({"logit_bias": {str(number): 1 for number in range(1025)}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"),
        ({"service_tier": "scale"}, "service_tier"),
        ({"provider_extensions": {"timing": True}}, "provider_extensions.timing"),
        ({"provider_extensions": {"truncation": "middle"}}, "provider_extensions.truncation"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}},
            "response_format.json_schema.schema",
        ),
        ({"guided_json": True}, "guided_json"),
        ({"guided_json": "[]"}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_json": "{" + "x" * 140_000}, "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "b"}, "guided_regex"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_wrong_values_are_refused_by_path(fields: dict[str, object], param: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param
    assert param.split("[", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1] in error.message
    assert error.message.endswith(".") or error.message.endswith("?")


def test_the_nearest_name_is_offered() -> None:
    assert "'temperature'" in refusal(body(temprature=1)).message


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"5", b'{"model": "\xff"}', b"\xff\xfe", b'{"model":"m","n":' + b"[" * 200_000]
)
def test_broken_bodies(raw: bytes) -> None:
    assert refusal(raw).body


def test_missing_model() -> None:
    assert refusal(b'{"messages":[{"role":"user","content":"x"}]}').param == "model"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    field.name
    for struct in (ChatRequest, CompletionRequest, Message, Part)
    for field in msgspec.structs.fields(struct)
]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_anything_else_is_read_or_refused(fields: dict[str, object]) -> None:
    with suppress(ApiError):
        chat_wish(read_chat(body(**fields)), {})
    with suppress(ApiError):
        completion_wish(read_completion(completion(**fields)), {})


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    with pytest.raises(ApiError):
        read_chat(raw)
    with pytest.raises(ApiError):
        read_completion(raw)
