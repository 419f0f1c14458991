"""What must be a call is one, with arguments after the tool's schema, whatever the model would like to say."""

import json
from collections.abc import Collection
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken

from actors.engine.grammar import Grammars
from api.reading.events import CallArguments, CallBegan, Said, Thought
from api.reading.reader import AnswerReader
from api.reading.reasoning import FAMILIES, Thinking, ThoughtReader
from api.text.detokenizer import detokenizers
from api.tools.format import ToolFormat, Tools
from api.tools.grammar import NamedTool, ToolChoice, tool_grammar
from api.tools.json_calls import closed
from api.tools.llama import LLAMA
from api.tools.reader import ToolReader
from schemas.task import Grammar
from tests.api import tokenizers_of
from tests.api.tools.test_tools import FORMATS

TOOLS: Tools = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Köln", "東京"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "where": {"$ref": "#/$defs/place"},
        },
        "required": ["city", "where"],
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"at": {"type": "boolean"}},
                "additionalProperties": False,
            }
        },
    },
    "stop": {},
    "say": {"properties": {"word": {"type": "string", "maxLength": 4}}, "required": ["word"]},
}
LONGEST = 1500


class Model:
    """A tokenizer with every family's markers, and random logits behind it."""

    def __init__(self, folder: Path, control: Collection[str]) -> None:
        tokenizer = tokenizers_of.byte_level()
        marks = sorted({mark for written in FORMATS for mark in written.markers} | set(FAMILIES[0].markers))
        tokenizer.add_tokens([AddedToken(mark, special=False) for mark in marks if mark not in control])
        tokenizer.add_special_tokens(list(control))
        tokenizer.save(str(folder / "tokenizer.json"))
        self.vocabulary = tokenizer.get_vocab_size()
        self.tokenizer = tokenizer
        self.folder = folder
        self._grammars = Grammars(folder, self.vocabulary)

    def id_of(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        assert found is not None
        return found

    def says(self, grammar: Grammar, seed: int) -> list[int]:
        """It ends its answer where it may and where it has begun to talk."""
        end = self.id_of("</s>")
        constraint = self._grammars.begin(grammar, (end,))
        random, made = np.random.default_rng(seed), list[int]()
        while not constraint.ended and len(made) < LONGEST:
            allowed = np.flatnonzero(
                np.unpackbits(np.frombuffer(constraint.mask(), np.uint8), bitorder="little")
            )
            chosen = end if end in allowed and len(made) > 100 else int(random.choice(allowed))
            constraint.commit(chosen)
            made += [] if chosen == end else [chosen]
        assert constraint.ended
        return made

    def reads(
        self, ids: list[int], written: ToolFormat, thinking: Thinking | None = None
    ) -> tuple[list[tuple[str, str]], str, str]:
        """Calls, words and thoughts."""
        shown = (*written.markers, *(thinking.markers if thinking else ()))
        detokenizer = detokenizers(self.tokenizer, shown)()
        thoughts = ThoughtReader(thinking, inside=True) if thinking else None
        reader = AnswerReader(thoughts, ToolReader(written, TOOLS))
        texts = [*(detokenizer.add([token]) for token in ids), detokenizer.end()]
        events = [*(event for text in texts for event in reader.add(text)), *reader.end()]
        names = [event.name for event in events if isinstance(event, CallBegan)]
        arguments = [""] * len(names)
        for event in events:
            if isinstance(event, CallArguments):
                arguments[event.index] += event.piece
        said = "".join(event.text for event in events if isinstance(event, Said))
        thought = "".join(event.text for event in events if isinstance(event, Thought))
        return list(zip(names, arguments, strict=True)), said, thought


@pytest.fixture(scope="module", params=["text", "control tokens"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Once all markers are tokens that are text, once they are control tokens."""
    marks = {mark for written in FORMATS for mark in written.markers} | set(FAMILIES[0].markers)
    return Model(tmp_path_factory.mktemp("model"), sorted(marks) if request.param != "text" else ())


def grammar(
    written: ToolFormat,
    model: Model,
    choice: ToolChoice,
    *,
    parallel: bool = True,
    thinking: Thinking | None = None,
) -> Grammar:
    control = {
        token.content for token in model.tokenizer.get_added_tokens_decoder().values() if token.special
    }
    made = tool_grammar(written, TOOLS, choice, parallel, control, thinking)
    assert made is not None
    return made


def check(calls: list[tuple[str, str]], said: str) -> None:
    assert said == ""
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), closed(TOOLS[name]))


@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.name)
def test_what_is_required_is_a_call(written: ToolFormat, model: Model) -> None:
    required = grammar(written, model, "required")
    counts: set[int] = set()
    names: set[str] = set()
    for seed in range(15):
        calls, said, _ = model.reads(model.says(required, seed), written)
        check(calls, said)
        counts.add(len(calls))
        names |= {name for name, _ in calls}
    assert min(counts) == 1
    assert max(counts) > 1 or written is LLAMA
    assert len(names) > 1


@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.name)
def test_one_call_of_the_tool_that_is_named(written: ToolFormat, model: Model) -> None:
    for choice in (NamedTool("weather"), "required"):
        only = grammar(written, model, choice, parallel=False)
        for seed in range(5):
            calls, said, _ = model.reads(model.says(only, seed), written)
            check(calls, said)
            assert len(calls) == 1
            assert choice == "required" or calls[0][0] == "weather"


@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.name)
def test_a_thought_that_the_prompt_began_comes_before_the_call(written: ToolFormat, model: Model) -> None:
    forced = grammar(written, model, NamedTool("stop"), thinking=FAMILIES[0])
    ids = [*model.tokenizer.encode("hm", add_special_tokens=False).ids, model.id_of("</think>")]
    call = model.says(grammar(written, model, NamedTool("stop")), 0)
    accepts = Grammars(model.folder, model.vocabulary).begin(forced)
    for token in [*ids, *model.tokenizer.encode("\n\n", add_special_tokens=False).ids, *call]:
        assert token in np.flatnonzero(
            np.unpackbits(np.frombuffer(accepts.mask(), np.uint8), bitorder="little")
        )
        accepts.commit(token)
    assert accepts.ended
    assert model.reads([*ids, *call], written, FAMILIES[0]) == (model.reads(call, written)[0], "", "hm")


def test_the_model_chooses_where_nothing_is_forced() -> None:
    for written in FORMATS:
        assert tool_grammar(written, TOOLS, "auto", True) is None
        assert tool_grammar(written, TOOLS, "none", True) is None
