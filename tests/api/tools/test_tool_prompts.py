"""Tools stand in a prompt as Hugging Face's templates put them there, and none of it becomes a control token."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from api.text.artifacts import template_source
from api.text.template import ChatTemplate, TemplateRefused
from api.text.tokenizer import ChatTokenizer
from api.tools.hermes import HERMES
from tests.api import tokenizers_of
from tests.api.templates import HERMES_TEMPLATE, TEXT_ARGUMENTS_TEMPLATE

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather's outlook <b>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CONTROL = [*tokenizers_of.SPECIAL, "<tool_call>"]


def tokenizer_of() -> Tokenizer:
    tokenizer = tokenizers_of.byte_level()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    return tokenizer


def chat(source: str = HERMES_TEMPLATE) -> ChatTokenizer:
    return ChatTokenizer(tokenizer_of(), ChatTemplate(source, {"bos_token": "<s>"}))


def conversation(arguments: str, result: str = "rain", name: str = "weather") -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "user", "content": "How is it in Köln?"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": result, "tool_call_id": "call_1"},
    ]


def test_equal_to_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    tokenizer_of().save(str(tmp_path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    mapped = conversation("{}")
    for call in mapped[1]["tool_calls"]:
        call["function"] = {"name": "weather", "arguments": {"city": "Köln", "at": [1, None]}}
    ids = theirs.apply_chat_template(
        mapped,
        tools=[WEATHER],
        chat_template=HERMES_TEMPLATE,
        add_generation_prompt=True,
        return_dict=False,
        enable_thinking=True,
    )
    ours = conversation('{"city": "Köln", "at": [1, null]}')
    assert chat().render_chat(ours, [WEATHER], {"enable_thinking": True}).ids == ids


@given(
    bits=st.lists(
        st.sampled_from([*CONTROL, "<|im_", "end|>", " a", "é", "\n", '"', "\\"]), min_size=4, max_size=10
    )
)
def test_nothing_of_a_call_becomes_a_control_token(bits: list[str]) -> None:
    text, tokenizer = "".join(bits), tokenizer_of()
    ours = chat("{% if note %}{{ note }}{% endif %}" + HERMES_TEMPLATE)
    tool = {**WEATHER, "function": {**WEATHER["function"], "description": text, text: {text: [text]}}}
    escaped = json.dumps({text: [text, {text: text}]}).replace("<", "\\u003c")
    hostile = conversation(json.dumps({text: text}), result=text, name=text)
    hostile[1]["tool_calls"][0]["function"]["arguments"] = escaped
    plain = conversation("{}")
    for token in ("<|im_start|>", "<|im_end|>", "<tool_call>", "<s>", "</s>"):
        at = tokenizer.token_to_id(token)
        assert at is not None
        assert ours.render_chat(hostile, [tool], {"note": text}).ids.count(at) == ours.render_chat(
            plain, [WEATHER]
        ).ids.count(at), token


def test_the_model_reads_every_character_of_it() -> None:
    ours, tokenizer = chat(), tokenizer_of()
    text = 'a <|im_end|> "b" </s>'
    ids = ours.render_chat(conversation(json.dumps({"city": text}), result=text), [WEATHER]).ids
    read = tokenizer.decode(ids, skip_special_tokens=False)
    assert read.count(json.dumps({"city": text})) == 2
    assert f"<tool_response>\n{text}\n</tool_response>" in read


def test_arguments_stay_text_where_the_template_wants_it_so() -> None:
    ours, tokenizer = chat(TEXT_ARGUMENTS_TEMPLATE), tokenizer_of()
    read = tokenizer.decode(
        ours.render_chat(conversation('{"city":  "Köln"}'), [WEATHER]).ids, skip_special_tokens=False
    )
    assert '```json\n{"city":  "Köln"}\n```' in read


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    read = tokenizer_of().decode(chat().render_chat(conversation("not json"), [WEATHER]).ids)
    assert '"arguments": "not json"' in read


def test_how_a_prompt_ends_is_told() -> None:
    rendered = chat().render_chat([{"role": "user", "content": "x"}], None, {"enable_thinking": True})
    assert rendered.tail.endswith("<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token"])
def test_a_variable_cannot_take_the_place_of_ours(name: str) -> None:
    with pytest.raises(TemplateRefused, match=f"'{name}' cannot be set"):
        chat().render_chat([{"role": "user", "content": "x"}], None, {name: "y"})


def test_what_a_template_says_of_calls_is_what_the_client_is_told() -> None:
    source = "{% if messages[1].tool_calls %}{{ raise_exception('no calls here') }}{% endif %}"
    with pytest.raises(TemplateRefused, match="no calls here"):
        chat(source).render_chat(conversation("{}"))


def test_a_tokenizer_knows_how_its_model_calls_and_thinks() -> None:
    assert chat().tool_format is HERMES
    thinking = chat().thinking
    assert thinking is not None
    assert thinking.begin == "<think>"
    plain = chat(tokenizers_of.CHATML)
    assert plain.tool_format is None
    assert plain.thinking is None
    assert ChatTokenizer(tokenizer_of(), None).tool_format is None


def test_a_template_of_its_own_for_tools() -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "{{ tools }}"}]
    assert template_source({}, {"chat_template": named}) == "plain"
    assert template_source({}, {"chat_template": named}, "tool_use") == "{{ tools }}"
    assert template_source({}, {"chat_template": "one"}, "tool_use") is None
    assert template_source({"chat_template.jinja": "one"}, {}, "tool_use") is None
    both = ChatTokenizer(tokenizer_of(), ChatTemplate("plain", {}), ChatTemplate(HERMES_TEMPLATE, {}))
    assert both.tool_format is HERMES
    assert len(both.render_chat(conversation("{}"), [WEATHER]).ids) > len(
        both.render_chat(conversation("{}")).ids
    )


@pytest.mark.parametrize("make", [tokenizers_of.byte_level, lambda: tokenizers_of.byte_fallback(strip=True)])
def test_a_detokenizer_shows_the_control_tokens_that_it_is_told_to(make: Any) -> None:
    tokenizer = make()
    ours = ChatTokenizer(make(), None)
    ids = tokenizer.encode("hello<|im_start|>hello<|im_end|>", add_special_tokens=False).ids
    detokenizer = ours.detokenizer_showing({"<|im_start|>", "no token"})()
    assert (detokenizer.add(ids) + detokenizer.end()).replace(" ", "") == "hello<|im_start|>hello"
    assert ours.detokenizer_showing({"no token"}) is ours.detokenizer
    plain = ours.detokenizer()
    assert "<|" not in plain.add(ids) + plain.end()
