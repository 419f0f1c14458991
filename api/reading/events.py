"""What a model's words are, once read: text, thinking, calls of tools."""

from msgspec import Struct


class Said(Struct, frozen=True):
    """Words for the client: `content`."""

    text: str


class Thought(Struct, frozen=True):
    """Words that led to them: `reasoning_content`."""

    text: str


class CallBegan(Struct, frozen=True):
    """A tool is called; `index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str


class CallArguments(Struct, frozen=True):
    """The next piece of a call's arguments: all pieces together are its JSON."""

    index: int
    piece: str


AnswerEvent = Said | Thought | CallBegan | CallArguments
