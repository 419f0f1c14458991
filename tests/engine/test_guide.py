"""The built-in model: its data, its tokenizer, its template, and what it answers."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from actors.engine.guide.answers import load_answers, wordings
from actors.engine.guide.batches import Encoder
from actors.engine.guide.corpus import FIRST_LESSONS, Turn, conversations, held_out, is_held_out
from actors.engine.guide.evaluate import MODEL_FOLDER, Score, answers, measure
from actors.engine.guide.tasks import Exchange
from actors.engine.guide.tokenizer import SPECIAL_TOKENS

MAX_BYTES = 8 * 1000 * 1000
TOKENIZER = Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))
TEMPLATE = jinja2.Environment().from_string((MODEL_FOLDER / "chat_template.jinja").read_text("utf-8"))
# below the card's figures by what chance may take from a smaller sample
LEAST = {
    "guide": 0.70,
    "repeat": 0.80,
    "count": 0.85,
    "add": 0.80,
    "reverse": 0.75,
    "last word": 0.80,
    "capital": 0.90,
    "guide, unseen wordings": 0.55,
}


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    from mlx_lm import load

    model, tokenizer, *_ = load(str(MODEL_FOLDER))
    return model, tokenizer


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    return {score.task: score for score in measure(MODEL_FOLDER, size=25, seed=7)}


def rendered(messages: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
    return TEMPLATE.render(messages=messages, add_generation_prompt=add_generation_prompt)


def said(loaded: tuple[Any, Any], question: str, answer: str) -> str:
    return answers(*loaded, [Exchange("", "", question, answer)])[0]


# ---- data


def test_equal_seeds_give_equal_conversations() -> None:
    assert list(islice(conversations(3), 200)) == list(islice(conversations(3), 200))
    assert list(islice(conversations(3), 200)) != list(islice(conversations(4), 200))


def test_equal_seeds_give_equal_questions() -> None:
    assert held_out(3, 5) == held_out(3, 5)


def test_training_and_held_out_questions_are_disjoint() -> None:
    usual = islice(conversations(20), FIRST_LESSONS, FIRST_LESSONS + 5000)
    trained = {turn.text for turns in usual for turn in turns if turn.role == "user"}
    sets = held_out(7, 100)
    unseen = sets.pop("guide, unseen wordings")
    assert all(is_held_out(exchange) for exchanges in sets.values() for exchange in exchanges)
    asked = {exchange.question for exchanges in (*sets.values(), unseen) for exchange in exchanges}
    assert asked.isdisjoint(trained)


def test_each_answer_has_a_dozen_wordings_and_some_that_only_measure() -> None:
    assert len(load_answers()) >= 80
    for answer in load_answers():
        assert sum(wordings(pattern) for pattern in answer.ask) >= 12, answer.name
        assert answer.held, answer.name
        assert set(answer.held).isdisjoint(answer.ask), answer.name


# ---- the folder


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= MAX_BYTES


def test_the_configuration_is_a_llama_with_the_tokenizer_s_ids() -> None:
    config = json.loads((MODEL_FOLDER / "config.json").read_text("utf-8"))
    assert config["model_type"] == "llama"
    assert config["vocab_size"] == TOKENIZER.get_vocab_size()
    assert config["max_position_embeddings"] == 2048
    assert config["eos_token_id"] == TOKENIZER.token_to_id("<|end|>")
    assert [TOKENIZER.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


@given(st.text())
def test_every_text_round_trips(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_every_byte_is_a_token() -> None:
    text = "".join(chr(point) for point in range(0x800)) + "\u20ac\U0001f600"
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False).ids) == text
    singles = [token for token in TOKENIZER.get_vocab() if len(token) == 1]
    assert len(singles) == 256


def test_digits_are_tokens_of_their_own() -> None:
    assert TOKENIZER.encode("4217", add_special_tokens=False).tokens == ["4", "2", "1", "7"]


# ---- the template


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "<|begin|><|assistant|>"),
        ([{"role": "user", "content": " hi "}], "<|begin|><|user|>hi<|end|><|assistant|>"),
        (
            [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
            "<|begin|><|system|>be kind<|end|><|user|>hi<|end|><|assistant|>",
        ),
        (
            [{"role": "developer", "content": "be kind"}],
            "<|begin|><|system|>be kind<|end|><|assistant|>",
        ),
        (
            [{"role": "assistant", "content": "hello"}, {"role": "user", "content": "hi"}],
            "<|begin|><|assistant|>hello<|end|><|user|>hi<|end|><|assistant|>",
        ),
        ([{"role": "assistant", "content": None}], "<|begin|><|assistant|><|end|><|assistant|>"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            "<|begin|><|user|>ab<|end|><|assistant|>",
        ),
    ],
)
def test_the_template_writes_each_role(messages: list[dict[str, Any]], expected: str) -> None:
    assert rendered(messages) == expected


def test_the_template_is_the_one_in_the_tokenizer_s_settings() -> None:
    settings = json.loads((MODEL_FOLDER / "tokenizer_config.json").read_text("utf-8"))
    assert settings["chat_template"] == (MODEL_FOLDER / "chat_template.jinja").read_text("utf-8")


def test_training_encodes_as_the_template_does() -> None:
    turns = (Turn("system", "be kind"), Turn("user", "count to 3"), Turn("assistant", "1, 2, 3"))
    text = rendered([{"role": turn.role, "content": turn.text} for turn in turns], False)
    assert Encoder(TOKENIZER).conversation(turns)[0] == TOKENIZER.encode(text, add_special_tokens=False).ids


def test_the_template_gives_mlx_lm_the_same_ids(loaded: tuple[Any, Any]) -> None:
    messages = [{"role": "user", "content": "count to 12"}]
    ids = loaded[1].apply_chat_template(messages, add_generation_prompt=True)
    assert ids == TOKENIZER.encode(rendered(messages), add_special_tokens=False).ids


# ---- what it answers


@pytest.mark.parametrize("task", LEAST)
def test_held_out_questions_are_answered(scores: dict[str, Score], task: str) -> None:
    assert scores[task].accuracy >= LEAST[task], scores[task].wrong


@pytest.mark.parametrize("task", LEAST)
def test_the_card_states_what_the_tests_ask_for(task: str) -> None:
    card = Path(MODEL_FOLDER / "README.md").read_text("utf-8")
    row = re.search(rf"^\| {re.escape(task)} \| \d+ \| ([\d.]+)% \|$", card, re.MULTILINE)
    assert row is not None
    assert float(row[1]) / 100 >= LEAST[task]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Repeat: red blue cat", "red blue cat"),
        ("Count to 12", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
        ("Count to 50", ", ".join(map(str, range(1, 51)))),
        ("Count to 100", ", ".join(map(str, range(1, 101)))),
        ("Count from 5 to 15", ", ".join(map(str, range(5, 16)))),
        ("What is 17 + 25?", "42"),
        ("What is the capital of France?", "Paris"),
    ],
)
def test_what_other_tests_and_the_readme_lean_on(loaded: tuple[Any, Any], question: str, answer: str) -> None:
    assert said(loaded, question, answer) == answer
