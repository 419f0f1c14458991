"""How a model's words become thoughts, an answer and calls: what its chat template and the request say together."""

from collections.abc import Callable

from msgspec import Struct

from api.errors import bad_request
from api.reading.reader import AnswerReader
from api.reading.reasoning import Thinking, ThoughtReader, opens, thought_rule
from api.text.answer import Answer
from api.text.detokenizer import Detokenizer
from api.text.tokenizer import ChatTokenizer
from api.tools.format import ToolFormat, Tools
from api.tools.grammar import ToolChoice, tool_grammar
from api.tools.reader import ToolReader, call_ids
from schemas.task import Grammar


class Calling(Struct, frozen=True):
    """What a chat says about tools; without tools nothing is read as a call."""

    tools: Tools = {}
    choice: ToolChoice = "auto"
    parallel: bool = True


class Reading(Struct, frozen=True):
    """Makes answers, one for each sequence."""

    detokenizer: Callable[[], Detokenizer]
    thinking: Thinking | None = None
    inside: bool = False
    """The prompt has begun a thought."""
    written: ToolFormat | None = None
    calling: Calling = Calling()

    def answer(self, stops: tuple[str, ...], name: str, *, aligned: bool) -> Answer:
        """`name`: what the ids of its calls are made of."""
        one_call = self.written is not None and not self.calling.parallel
        return Answer(
            self.detokenizer(), stops, aligned=aligned, reader=self._reader(name), one_call=one_call
        )

    def _reader(self, name: str) -> AnswerReader | None:
        """Plain text needs none."""
        if self.thinking is None and self.written is None:
            return None
        thoughts = ThoughtReader(self.thinking, inside=self.inside) if self.thinking else None
        tools = None
        if self.written is not None:
            tools = ToolReader(self.written, self.calling.tools, call_ids(self.written, name))
        return AnswerReader(thoughts, tools)


def reading(
    tokenizer: ChatTokenizer, calling: Calling, tail: str, kept: Grammar | None
) -> tuple[Reading, Grammar | None]:
    """How to read the answer to a prompt that ends in `tail`, and the grammar of all of it.

    `kept` is the grammar of its words; raises `ApiError` when the model cannot call tools.
    """
    written = _written(tokenizer, calling)
    thinking = tokenizer.thinking
    inside = thinking is not None and opens(thinking, tail) and (kept is None or kept.kind == "json_schema")
    markers = [*(thinking.markers if thinking else ()), *(written.markers if written else ())]
    read = Reading(tokenizer.detokenizer_showing(markers), thinking, inside, written, calling)
    begun = thinking if inside else None
    if kept is not None:
        return read, _kept(kept, begun, tokenizer, read)
    if written is None:
        return read, None
    return read, tool_grammar(
        written, calling.tools, calling.choice, calling.parallel, tokenizer.control, begun
    )


def _written(tokenizer: ChatTokenizer, calling: Calling) -> ToolFormat | None:
    if not calling.tools:
        return None
    if tokenizer.tool_format is None:
        raise bad_request(
            "'tools' is not supported by this model: its chat template has no place for them, or writes calls in a "
            "way that is not known here.",
            "tools",
            "unsupported_parameter",
        )
    return tokenizer.tool_format


def _kept(kept: Grammar, begun: Thinking | None, tokenizer: ChatTokenizer, read: Reading) -> Grammar:
    """`kept`, after the thought that the prompt has begun, or else calls."""
    if begun is None and read.written is None:
        return kept
    calls = "" if read.written is None else _calls(read.written, read.calling, tokenizer)
    start = "start: thought /\\s*/ (words | calls)" if begun else "start: words | calls"
    rules = [start if calls else start.replace("(words | calls)", "words"), f"words: %json {kept.source}"]
    if begun:
        rules.append(thought_rule(begun, tokenizer.control))
    return Grammar(kind="lark", source="\n".join([*rules, calls]) + "\n")


def _calls(written: ToolFormat, calling: Calling, tokenizer: ChatTokenizer) -> str:
    forced = tool_grammar(written, calling.tools, "required", calling.parallel, tokenizer.control)
    assert forced is not None, "what is required has a grammar"
    return f"calls: {forced.source.removeprefix('start: ')}"
