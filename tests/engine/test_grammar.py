"""Whatever a model would like to say, under a grammar it says a sentence of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from actors.engine import guide
from actors.engine.grammar import Constraint, GrammarError, Grammars
from schemas.task import Grammar
from tests.api import tokenizers_of

FOLDER = Path(guide.__file__).parent / "model"
VOCABULARY = 1024
END = 2
ROUNDS = 200
LONGEST = 2000

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 3, "maximum": 117},
        "height": {"type": "number", "exclusiveMinimum": 0.5, "maximum": 2.5},
        "mood": {"enum": ["glad", "größer", "東京", None, 7, True]},
        "step": {"type": "integer", "multipleOf": 25, "minimum": -100, "maximum": 100},
        "home": {
            "type": "object",
            "properties": {
                "streets": {
                    "type": "array",
                    "items": {"type": "string", "pattern": "^[a-z]{2,5}$"},
                    "maxItems": 2,
                },
                "kind": {"anyOf": [{"const": "flat"}, {"type": "boolean"}]},
            },
            "required": ["streets", "kind"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "mood", "home"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
DATED = {
    "type": "array",
    "items": {"type": "string", "format": "date"},
    "minItems": 1,
    "maxItems": 3,
}
REGEXES = [
    r"\d{3}-\d{4}",
    r"(yes|no|maybe)( [a-z]{1,4}){0,3}[.!?]",
    r"[äöü東京🙂]{1,6}",
    r"^a/b\\\"c\n?$",
    r"(?i)hello",
]
SUMS = r"""
start: sum "="
sum: number (SIGN number)*
number: /[0-9]{1,3}/ | "(" sum ")"
SIGN: /[-+]/
"""


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(FOLDER, VOCABULARY)


@pytest.fixture(scope="module")
def decode() -> Callable[[list[int]], str]:
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)


def schema(of: object) -> Grammar:
    return Grammar(kind="json_schema", source=json.dumps(of))


def regex(source: str) -> Grammar:
    return Grammar(kind="regex", source=source)


def lark(source: str) -> Grammar:
    return Grammar(kind="lark", source=source)


def allowed(mask: bytes) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))


def generate(
    constraint: Constraint, seed: int, stops: tuple[int, ...] = (END,), longest: int = LONGEST
) -> list[int]:
    """What a model with random logits says."""
    random = np.random.default_rng(seed)
    made: list[int] = []
    while not constraint.ended:
        ids = allowed(constraint.mask())
        token = int(ids[np.argmax(random.random(len(ids)))])
        constraint.commit(token)
        if token not in stops:
            made.append(token)
        assert len(made) < longest
    return made


@pytest.mark.parametrize("of", [PERSON, TREE, DATED], ids=["person", "tree", "dated"])
def test_json_is_valid_under_its_schema(
    grammars: Grammars, decode: Callable[[list[int]], str], of: dict[str, object]
) -> None:
    checker = jsonschema.Draft202012Validator(of, format_checker=jsonschema.FormatChecker())
    seen = {decode(generate(grammars.begin(schema(of), (END,)), seed)) for seed in range(ROUNDS)}
    for text in seen:
        checker.validate(json.loads(text))
    assert len(seen) > ROUNDS / 2, "it was the model that chose"


@pytest.mark.parametrize("source", REGEXES)
def test_text_matches_its_regex(grammars: Grammars, decode: Callable[[list[int]], str], source: str) -> None:
    for seed in range(ROUNDS // 4):
        text = decode(generate(grammars.begin(regex(source), (END,)), seed))
        assert re.fullmatch(source, text, re.ASCII) or re.fullmatch(source, text)


def test_text_is_a_sentence_of_its_lark_grammar(
    grammars: Grammars, decode: Callable[[list[int]], str]
) -> None:
    for seed in range(ROUNDS // 4):
        text = decode(generate(grammars.begin(lark(SUMS), (END,)), seed))
        assert text.endswith("=")
        assert isinstance(eval(re.sub(r"\b0+(?=\d)", "", text[:-1])), int)


def test_without_stop_ids_a_sentence_that_nothing_can_follow_has_ended(
    grammars: Grammars, decode: Callable[[list[int]], str]
) -> None:
    constraint = grammars.begin(regex("ab?c"))
    ids = generate(constraint, seed=1, stops=())
    assert constraint.ended
    assert decode(ids) in {"ac", "abc"}


def test_stop_ids_are_allowed_where_the_sentence_may_end_and_nowhere_else(grammars: Grammars) -> None:
    a = int(allowed(grammars.begin(regex("a")).mask())[0])
    constraint = grammars.begin(regex("a+"), (END, a + 1, 5_000_000))
    assert set(allowed(constraint.mask())) & {END, a + 1} == set()
    constraint.commit(a)
    assert set(allowed(constraint.mask())) >= {a, END, a + 1}
    assert not constraint.ended
    constraint.commit(END)
    assert constraint.ended


def test_a_stop_id_is_no_part_of_the_text(grammars: Grammars) -> None:
    brace = int(allowed(grammars.begin(regex("}")).mask())[0])
    assert brace in allowed(grammars.begin(regex("[}{]+!"), ()).mask())
    assert brace not in allowed(grammars.begin(regex("[}{]+!"), (brace,)).mask())


def test_control_tokens_cannot_be_said(grammars: Grammars) -> None:
    ids = set(allowed(grammars.begin(regex("(?s:.)*"), (END,)).mask()))
    assert ids & set(range(7)) == {END}
    assert len(ids) > 900


def test_a_grammar_may_name_a_control_token(grammars: Grammars) -> None:
    constraint = grammars.begin(lark('start: <|tool|> "x" <[5]>'), (END,))
    assert len(generate(constraint, seed=0)) == 3


@pytest.mark.parametrize("vocabulary", [1000, 1024, 1025, 1031, 1100])
def test_the_mask_has_a_bit_for_each_logit(vocabulary: int) -> None:
    """Vocabularies are padded; the ids that no token has are not chosen."""
    mask = Grammars(FOLDER, vocabulary).begin(regex("(?s:.)*"), (END, vocabulary - 1)).mask()
    assert len(mask) == (vocabulary + 7) // 8
    ids = set(allowed(mask))
    assert vocabulary - 1 in ids, "a stop id, so it is allowed here"
    assert max(ids - {vocabulary - 1}) < min(vocabulary, 1024)


def test_a_replayed_answer_goes_on_as_the_undisturbed_one(grammars: Grammars) -> None:
    undisturbed = grammars.begin(schema(PERSON), (END,))
    ids = generate(grammars.begin(schema(PERSON), (END,)), seed=3)
    for position in range(len(ids)):
        replayed = grammars.begin(schema(PERSON), (END,))
        for made in ids[:position]:
            replayed.commit(made)
        assert replayed.mask() == undisturbed.mask()
        undisturbed.commit(ids[position])
        assert replayed.ended is False


def test_answers_under_one_grammar_do_not_touch_each_other(
    grammars: Grammars, decode: Callable[[list[int]], str]
) -> None:
    first, second = grammars.begin(regex("(ab){4}")), grammars.begin(regex("(ab){4}"))
    generate(first, seed=0, stops=())
    assert decode(generate(second, seed=1, stops=())) == "abababab"


def test_equal_grammars_are_compiled_once(grammars: Grammars, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.engine import grammar

    grammars.begin(regex("once"))
    monkeypatch.setattr(grammar, "LLMatcher", None)
    grammars.begin(Grammar(kind="regex", source="once"))


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        (regex("(a"), "regular expression cannot be used: unclosed group"),
        (regex("a\\"), "ends within an escape"),
        (regex("(?=a)b"), "look-ahead"),
        (regex("[a-z&&[^a-z]]"), "nothing can match it"),
        (regex("a\ud800"), "surrogates"),
        (lark("start: x"), 'unknown name: "x"'),
        (lark('rule: "a"'), "no start rule"),
        (lark('start: a\na[temperature=0.5]: "b"'), "temperature"),
        (lark("start: <|nobody|>"), r"unknown special token: \"<\|nobody\|>\""),
        (lark("start: again\nagain: again"), "nothing can match it"),
        (Grammar(kind="json_schema", source="{"), "no valid JSON"),
        (schema(3), "object"),
        (schema({"type": "strin"}), "Invalid type: strin"),
        (schema({"uniqueItems": True}), "uniqueItems"),
        (schema({"$ref": "http://example.org/x"}), "http://example.org/x"),
        (schema({"type": "string", "pattern": "(a"}), "unclosed group"),
        (schema({"type": "integer", "minimum": 5, "maximum": 4}), "cannot be used"),
        (schema({"multipleOf": -3}), "must be above 0, and is -3"),
    ],
)
def test_what_cannot_be_used_is_said(grammars: Grammars, grammar: Grammar, says: str) -> None:
    with pytest.raises(GrammarError, match=says) as told:
        grammars.begin(grammar)
    assert str(told.value).endswith(".")
    assert "\n" not in str(told.value)


def chain(length: int) -> dict[str, object]:
    links = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} for at in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{length}": {}}}


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        (regex("a" * 300_000), "at most"),
        (
            lark("start: a0\n" + "".join(f"a{at}: a{at + 1}\n" for at in range(10_000))),
            "more than 2000 lines",
        ),
        (schema(chain(5_000)), r"more than 2000 '\$ref'"),
        (schema({"type": "integer", "multipleOf": 999_983}), "999983"),
        (schema({"allOf": [{"multipleOf": 997}, {"multipleOf": 9.91}]}), r"997.*too much"),
        (schema({"multipleOf": 1e300}), "too much"),
        (schema({"properties": {f"p{at}": {} for at in range(1001)}}), "1001 in its largest object"),
        (lark('start: %json {"multipleOf": 999983}'), "999983"),
        (Grammar(kind="json_schema", source=nested(400)), "recursion limit"),
        (Grammar(kind="json_schema", source=nested(20_000)), "too deeply"),
    ],
    ids=[
        "long",
        "rules",
        "refs",
        "multiple",
        "multiples",
        "huge",
        "properties",
        "embedded",
        "deep",
        "deeper",
    ],
)
def test_what_would_take_the_runner_down_is_refused(grammars: Grammars, grammar: Grammar, says: str) -> None:
    with pytest.raises(GrammarError, match=says):
        grammars.begin(grammar)


def test_the_longest_chains_that_are_taken_compile(grammars: Grammars) -> None:
    grammars.begin(schema(chain(1990))).mask()
    grammars.begin(
        lark("".join(f"a{at}: a{at + 1}\n" for at in range(1990)) + 'a1990: "x"\nstart: a0')
    ).mask()


def test_a_large_schema_is_taken(grammars: Grammars) -> None:
    choices = {"enum": [f"value {at}" for at in range(500)]}
    groups = {
        f"g{at}": {"type": "object", "properties": {f"p{key}": {} for key in range(40)}} for at in range(40)
    }
    grammars.begin(schema({"type": "object", "properties": {**groups, "choices": choices}})).mask()


def test_what_is_prepared_is_not_read_again(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "tokenizer.json", tmp_path)
    prepared = Grammars(tmp_path, VOCABULARY)
    prepared.prepare()
    (tmp_path / "tokenizer.json").unlink()
    prepared.begin(regex("a"))
    Grammars(tmp_path, VOCABULARY).prepare()  # no tokenizer: the first request says so


def test_a_grammar_that_becomes_too_much_fails_its_own_answer(grammars: Grammars) -> None:
    constraint = grammars.begin(regex("(a{1000}){1000}"))
    with pytest.raises(GrammarError, match="too many expressions"):
        generate(constraint, seed=0)


def test_a_token_that_cannot_be_next_is_refused(grammars: Grammars) -> None:
    for token in (END, 0, 500, 1024, 10**6):
        with pytest.raises(GrammarError, match=f"Token {token} cannot be next"):
            grammars.begin(regex("1")).commit(token)


def test_a_model_without_a_fitting_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(GrammarError, match=r"tokenizer cannot be used with grammars.*tokenizer\.json"):
        Grammars(tmp_path, VOCABULARY).begin(regex("a"))
    (tmp_path / "tokenizer.json").write_text(
        '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}'
    )
    with pytest.raises(GrammarError, match="tokenizer cannot be used with grammars"):
        Grammars(tmp_path, VOCABULARY).begin(regex("a"))


@pytest.fixture
def with_added(tmp_path: Path) -> Grammars:
    """1024 is `<tool_call>`, which is text; 1025 is the control token `[TOOL]`."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    tokenizer.add_special_tokens([AddedToken("[TOOL]", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Grammars(tmp_path, 1026)


def test_an_added_token_that_is_text_may_say_its_text(with_added: Grammars) -> None:
    constraint = with_added.begin(regex("<tool_call>x"))
    assert list(allowed(constraint.mask())) == [1024], "as the model would split it"
    constraint.commit(1024)
    generate(constraint, seed=0, stops=())
    assert 1024 in allowed(with_added.begin(regex("a|<tool_call>")).mask())


@pytest.mark.parametrize("text", ["<|end|>", "[TOOL]", "a<|user|>"])
def test_the_text_of_a_control_token_is_said_without_it(with_added: Grammars, text: str) -> None:
    for grammar in (regex(re.escape(text)), schema({"const": text}), regex(f"(b|{re.escape(text)})")):
        made = generate(with_added.begin(grammar, (END,)), seed=0)
        assert set(made) & {*range(7), 1025} == set()


def test_a_control_token_without_angle_brackets_is_named_within_some(with_added: Grammars) -> None:
    for name in ("<[1025]>", "<|[TOOL]|>"):
        assert list(allowed(with_added.begin(lark(f"start: {name}")).mask())) == [1025]


@pytest.mark.parametrize(
    "make",
    [
        tokenizers_of.byte_level,
        lambda: tokenizers_of.byte_fallback(strip=True),
        lambda: tokenizers_of.byte_fallback(strip=False),
    ],
    ids=["byte level", "llama", "gemma"],
)
def test_families_of_tokenizers(tmp_path: Path, make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    grammars = Grammars(tmp_path, tokenizer.get_vocab_size())
    of = {
        "type": "object",
        "properties": {"hello world é": {"const": "東 a\tb"}},
        "required": ["hello world é"],
    }
    for seed in range(20):
        made = generate(grammars.begin(schema({**of, "additionalProperties": False})), seed, stops=())
        text = tokenizer.decode(made, skip_special_tokens=False)
        assert json.loads(text) == {"hello world é": "東 a\tb"}
