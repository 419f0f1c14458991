"""Thinking aloud before the answer: `<think>...</think>` becomes `reasoning_content`.

    thinking = thinks(template.source)  # None: the model does not
    reader = ThoughtReader(thinking, inside=opens(thinking, rendered.tail))
    for text in answer: events = reader.add(text)  # Thought, then Said
    events = reader.end()

`api/reading/reader.py` puts it before the reader of tools.
"""

from collections.abc import Collection

from msgspec import Struct

from api.reading.events import AnswerEvent, Said, Thought
from api.reading.marker import beginning_of
from api.tools.json_calls import literal, spelt


class Thinking(Struct, frozen=True):
    """What stands around a model's thoughts."""

    begin: str
    end: str

    @property
    def markers(self) -> tuple[str, str]:
        """Texts that may be control tokens: the detokenizer must show them."""
        return self.begin, self.end


FAMILIES = (
    Thinking("<think>", "</think>"),
    Thinking("[THINK]", "[/THINK]"),
    Thinking("<seed:think>", "</seed:think>"),
    Thinking("<longcat_think>", "</longcat_think>"),
)


def thinks(template: str) -> Thinking | None:
    """How the models of this chat template think aloud; None: they do not."""
    return next((each for each in FAMILIES if each.begin in template or each.end in template), None)


def opens(thinking: Thinking, prompt: str) -> bool:
    """Whether a rendered prompt (its end is enough) has begun the thought that the answer goes on with."""
    return prompt.rstrip().endswith(thinking.begin)


def thought_rule(thinking: Thinking, control: Collection[str] = ()) -> str:
    """Lark: `thought` is the rest of one that the prompt has begun; `control`: texts of control tokens."""
    if thinking.end in control:
        return f"thought: /(?s:.*)/ {spelt(thinking.end, control)}\n"
    return f"thought[suffix={literal(thinking.end)}]: /(?s:.*)/\n"


class ThoughtReader:
    """Splits an answer that may begin with a thought; the space around both is left out."""

    def __init__(self, thinking: Thinking, *, inside: bool = False) -> None:
        self._thinking = thinking
        self._inside = inside
        self._outside = False
        self._trim = True
        """At the beginning of a thought, or of the answer after one."""
        self._held = ""

    def add(self, text: str) -> list[AnswerEvent]:
        """What is certain now that `text` has come."""
        self._held += text
        events: list[AnswerEvent] = []
        if not self._inside and not self._outside:
            self._begin()
        if self._inside:
            events += self._thought()
        if self._outside:
            events += self._said()
        return events

    def end(self) -> list[AnswerEvent]:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        if not held:
            return []
        if self._inside:
            return [Thought(held)] if not held.isspace() else []
        return [Said(held)] if not (self._outside and self._trim and held.isspace()) else []

    def _begin(self) -> None:
        rest = self._held.lstrip()
        if rest.startswith(self._thinking.begin):
            self._inside, self._held = True, rest[len(self._thinking.begin) :]
        elif not self._thinking.begin.startswith(rest):
            self._outside, self._trim = True, False

    def _thought(self) -> list[AnswerEvent]:
        if self._trim:
            self._held = self._held.lstrip()
        end = self._thinking.end
        found = self._held.find(end)
        words = self._held[
            : found if found >= 0 else len(self._held) - beginning_of(end, self._held)
        ].rstrip()
        if found >= 0:
            self._held = self._held[found + len(end) :]
            self._inside, self._outside, self._trim = False, True, True
        else:
            self._held = self._held[len(words) :]
            self._trim = self._trim and not words
        return [Thought(words)] if words else []

    def _said(self) -> list[AnswerEvent]:
        if self._trim:
            self._held = self._held.lstrip()
        words, self._held = self._held, ""
        self._trim = self._trim and not words
        return [Said(words)] if words else []
