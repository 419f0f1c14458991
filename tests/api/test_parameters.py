"""Every parameter of a chat request is honoured, neutral, or refused by name."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.parameters import NEUTRAL, NEUTRAL_MESSAGE, read_chat
from schemas.openai import ChatRequest, Message, Part

USER = {"role": "user", "content": "hi"}


def body(**fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [USER]} | fields)


def refusal(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read_chat(raw)
    assert caught.value.status == 400
    return caught.value


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
    assert refusal(body(n=True)).param == "n"
    assert refusal(body(logprobs=0)).param == "logprobs"
    read_chat(body(n=1.0, presence_penalty=0.0))


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
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_wrong_values_are_refused_by_path(fields: dict[str, object], param: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param
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
NAMES = [field.name for struct in (ChatRequest, Message, Part) for field in msgspec.structs.fields(struct)]


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_anything_else_is_read_or_refused(fields: dict[str, object]) -> None:
    with suppress(ApiError):
        read_chat(body(**fields))


@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    with pytest.raises(ApiError):
        read_chat(raw)
