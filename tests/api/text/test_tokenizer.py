"""Prompts are what Hugging Face makes of them, and nobody's text becomes a control token."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from api.text.template import ChatTemplate, TemplateRefused
from api.text.tokenizer import ChatTokenizer
from tests.api import tokenizers_of

SPLITS_THINKING = (
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' and '</think>' in message.content %}"
    "{{- '<|im_start|>assistant\\n' + message.content.split('</think>')[-1].lstrip() + '<|im_end|>' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}{%- endif %}"
    "{%- endfor %}<|im_start|>assistant\n<think>"
)
RICH = (
    "{{ bos_token }}{% generation %}{% endgeneration %}{%- set ns = namespace(n=0) %}"
    "{% for m in messages %}\n    {% if loop.first and m.role != 'system' %}\nHi\n    {% endif %}\n"
    "    {% if m.content == 'skip' %}{% continue %}{% endif %}\n"
    "{{ m | tojson }} {{ m.content | trim | upper }}{% set ns.n = ns.n + 1 %}\n{% endfor %}{{ ns.n }}"
)
TEXT = st.lists(st.sampled_from([*tokenizers_of.SPECIAL, "<|im_", "end|>", "<", " a", "é", "\n"]), max_size=8)
ROLES = st.sampled_from(["system", "user", "assistant"])


def chat(tokenizer: Tokenizer, source: str = tokenizers_of.CHATML) -> ChatTokenizer:
    return ChatTokenizer(tokenizer, ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}))


def id_of(tokenizer: Tokenizer, text: str) -> int:
    found = tokenizer.token_to_id(text)
    assert found is not None
    return found


def user(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.mark.parametrize("source", [tokenizers_of.CHATML, SPLITS_THINKING, RICH])
@pytest.mark.parametrize("make", [tokenizers_of.byte_level, lambda: tokenizers_of.byte_fallback(strip=True)])
def test_equal_to_transformers(
    source: str, make: Callable[[], Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    make().save(str(tmp_path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(str(tmp_path))
    ours = chat(make(), source)
    for messages in (
        [user("hello world")],
        [user("be nice", "system"), user("  hällo 東京 \n\n x"), user("yes", "assistant"), user("skip")],
        [user(""), user("<b>it's & 'quoted'</b>", "assistant"), user("{{ 5 }} {% raw %}")],
    ):
        ids = theirs.apply_chat_template(
            messages, chat_template=source, add_generation_prompt=True, return_dict=False
        )
        assert ours.render_chat(messages).ids == ids


@given(texts=st.lists(st.tuples(ROLES, TEXT.map("".join)), min_size=1, max_size=4))
def test_text_never_becomes_a_control_token(texts: list[tuple[str, str]]) -> None:
    tokenizer = tokenizers_of.byte_level()
    ours = chat(tokenizer)
    messages = [user(text, role) for role, text in texts]
    ids = ours.render_chat(messages).ids
    start, end = id_of(tokenizer, "<|im_start|>"), id_of(tokenizer, "<|im_end|>")
    assert ids.count(start) == len(messages) + 1
    assert ids.count(end) == len(messages)
    assert id_of(tokenizer, "</s>") not in ids
    rendered = ChatTemplate(tokenizers_of.CHATML, {}).render(messages)
    assert tokenizer.decode(ids, skip_special_tokens=False) == rendered, (
        "the model still reads every character"
    )


def test_the_usual_path_has_no_breaks() -> None:
    tokenizer = tokenizers_of.byte_level()
    plain = tokenizer.encode(
        "<|im_start|>user\nhi < there<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False
    )
    assert chat(tokenizer).render_chat([user("hi < there")]).ids == plain.ids


def test_control_tokens_of_the_template_that_are_not_marked_special() -> None:
    tokenizer = tokenizers_of.byte_level()
    think = id_of(tokenizer, "<think>")
    ids = chat(tokenizer, SPLITS_THINKING).render_chat([user("what is <think>?")]).ids
    assert ids.count(think) == 1, "the template's own, and not the user's"
    ids = chat(tokenizer).render_chat([user("what is <think>?")]).ids
    assert ids.count(think) == 1, "no control token here: the template does not write it"


def test_templates_that_look_for_tokens_in_the_assistants_words_still_find_them() -> None:
    tokenizer = tokenizers_of.byte_level()
    tokenizer.add_tokens(["</think>"])
    ours = chat(tokenizer, SPLITS_THINKING + "</think>")
    messages = [user("<think>hm</think>yes <|im_end|>", "assistant"), user("</think>?")]
    ids = ours.render_chat(messages).ids
    text = tokenizer.decode(ids, skip_special_tokens=False)
    assert "hm" not in text, "the template cut the thinking out"
    assert ids.count(id_of(tokenizer, "</think>")) == 1
    assert ids.count(id_of(tokenizer, "<|im_end|>")) == 2


def test_developer_is_the_system_where_the_template_does_not_know_it() -> None:
    ours = chat(tokenizers_of.byte_level())
    assert ours.render_chat([user("x", "developer")]).ids == ours.render_chat([user("x", "system")]).ids


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[5].content }}", "no element 5"),
        ("{{ 1 / 0 }}", "division"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ 'a' + 1 }}", "str"),
    ],
)
def test_what_a_template_refuses_is_said(source: str, says: str) -> None:
    with pytest.raises(TemplateRefused, match=says):
        chat(tokenizers_of.byte_level(), source).render_chat([user("x")])


def test_a_broken_template_says_so() -> None:
    with pytest.raises(TemplateRefused, match="no valid Jinja"):
        ChatTemplate("{% for %}", {})
