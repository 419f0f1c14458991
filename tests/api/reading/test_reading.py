"""What the API makes of a request's grammar, its tools and a model's thoughts is a grammar that engines keep to."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from actors.engine import guide
from actors.engine.grammar import GrammarError, Grammars
from api.openai.grammars import one_of
from api.reading.manner import Calling, reading
from api.text.template import ChatTemplate
from api.text.tokenizer import ChatTokenizer
from schemas.task import Grammar
from tests.api.tools.test_calls import CALL, TEMPLATE, THOUGHT_BEGUN

FOLDER = Path(guide.__file__).parent / "model"
SCHEMA = Grammar(
    kind="json_schema",
    source='{"type":"object",\n"properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}',
)
WEATHER = {
    "weather": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
JSON, TEXT = '{"a": 1}', "hello"


def follows(grammar: Grammar, text: str) -> bool:
    """Whether `text` begins, or is, a sentence of it."""
    constraint = Grammars(FOLDER, 1024).begin(grammar, (2,))
    try:
        for token_id in tokenizer().encode(text, add_special_tokens=False).ids:
            constraint.commit(token_id)
    except GrammarError:
        return False
    return True


def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


@pytest.mark.parametrize(
    ("template", "tail", "thought"),
    [(TEMPLATE, "assistant: ", ""), (THOUGHT_BEGUN, "<think>\n", "hm</think>")],
)
@pytest.mark.parametrize(
    ("calling", "kept", "taken"),
    [
        (Calling(WEATHER), SCHEMA, {JSON, CALL}),
        (Calling(), SCHEMA, {JSON}),
        (Calling(WEATHER, "required"), None, {CALL}),
    ],
)
def test_what_is_kept_to(
    template: str, tail: str, thought: str, calling: Calling, kept: Grammar | None, taken: set[str]
) -> None:
    chat = ChatTokenizer(tokenizer(), ChatTemplate(template, {}))
    _, grammar = reading(chat, calling, tail, kept)
    assert grammar is not None
    assert {text for text in (JSON, CALL, TEXT) if follows(grammar, thought + text)} == taken


def test_a_choice_of_texts_is_taken_as_written() -> None:
    texts = ["yes", "no (never)!", "a b-c\n<x> & # ~ {1} é \\d"]
    grammar = Grammar(kind="regex", source=one_of(texts))
    assert all(follows(grammar, text) for text in texts)
    assert not follows(grammar, "no never")
