"""An answer in the words of OpenAI's chat completions: as chunks, or whole."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from api.generation import Generation, Piece
from api.openai.choice import Words
from api.openai.cost import fingerprint, timings, usage
from api.openai.logprobs import chat_logprobs
from api.reading.events import AnswerEvent, CallArguments, CallBegan, Said, Thought
from api.sse import event
from api.text.answer import Finish
from schemas.chat import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
)
from schemas.openai import CompletionUsage
from schemas.tools import FunctionDelta, ToolCallDelta

_encode = msgspec.json.Encoder().encode
_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ChunkWriter:
    """Events of one stream; all but the words between them is written once for each choice."""

    def __init__(self, generation: Generation, model: str, wants_usage: bool) -> None:
        self._generation = generation
        self._model = model
        self._wants_usage = wants_usage
        self._choices = range(generation.wish.n)
        self._around = [
            self._event(index, Delta(content=_SLOT)).split(_encode(_SLOT)) for index in self._choices
        ]

    def role(self) -> bytes:
        return b"".join([self._event(index, Delta(role="assistant", content="")) for index in self._choices])

    def piece(self, piece: Piece) -> bytes:
        """Its words, if there are any, and why the choice ended, if it did."""
        if piece.text and not piece.shown:
            before, after = self._around[piece.choice]
            data = b"".join((before, _encode(piece.text), after))
        else:
            data = self._events(piece) if piece.shown or piece.events else b""
        return data + self._event(piece.choice, Delta(), piece.finish) if piece.finish else data

    def _events(self, piece: Piece) -> bytes:
        """One for each delta; log-probabilities stand in the first."""
        deltas = [delta_of(event) for event in piece.events] or [Delta(content=piece.text)]
        shown = [self._logprobs(piece), *[None] * (len(deltas) - 1)]
        return b"".join(
            [
                self._event(piece.choice, delta, logprobs=logprobs)
                for delta, logprobs in zip(deltas, shown, strict=True)
            ]
        )

    def end(self) -> bytes:
        """What it cost and where the time went, for those who asked."""
        if not self._wants_usage and not self._generation.wish.timings:
            return b""
        cost = usage([self._generation]) if self._wants_usage else UNSET
        return event(_encode(self._chunk([], cost, last=True)))

    def _logprobs(self, piece: Piece) -> ChoiceLogprobs | None:
        texts = self._generation.texts
        return chat_logprobs(texts, piece.shown) if texts and piece.shown else None

    def _event(
        self,
        index: int,
        delta: Delta,
        finish: Finish | None = None,
        logprobs: ChoiceLogprobs | None = None,
    ) -> bytes:
        choice = ChunkChoice(index, delta, logprobs, finish)
        return event(_encode(self._chunk([choice], None if self._wants_usage else UNSET)))

    def _chunk(
        self, choices: list[ChunkChoice], cost: CompletionUsage | UnsetType | None, *, last: bool = False
    ) -> ChatCompletionChunk:
        generation = self._generation
        return ChatCompletionChunk(
            id=completion_id(generation),
            created=generation.created,
            model=self._model,
            system_fingerprint=fingerprint(generation),
            choices=choices,
            usage=cost,
            service_tier=generation.wish.tier or UNSET,
            timings=timings([generation]) if last else UNSET,
            truncated_messages=truncated(generation),
        )


def delta_of(event: AnswerEvent) -> Delta:
    """What a chunk says of it."""
    match event:
        case Said():
            return Delta(content=event.text)
        case Thought():
            return Delta(reasoning_content=event.text)
        case CallBegan():
            function = FunctionDelta("", event.name)
            return Delta(tool_calls=[ToolCallDelta(event.index, function, event.id, "function")])
        case CallArguments():
            return Delta(tool_calls=[ToolCallDelta(event.index, FunctionDelta(event.piece))])


def whole(generation: Generation, model: str, words: Iterable[Words]) -> bytes:
    """The answer of a request without `stream`."""
    completion = ChatCompletion(
        id=completion_id(generation),
        created=generation.created,
        model=model,
        choices=[_choice(generation, index, each) for index, each in enumerate(words)],
        usage=usage([generation]),
        system_fingerprint=fingerprint(generation),
        service_tier=generation.wish.tier or UNSET,
        timings=timings([generation]),
        truncated_messages=truncated(generation),
    )
    return _encode(completion)


def _choice(generation: Generation, index: int, words: Words) -> Choice:
    texts = generation.texts
    logprobs = None if texts is None else chat_logprobs(texts, words.shown)
    calls = words.calls
    message = AnswerMessage(
        words.text or (None if calls else ""),
        reasoning_content=words.thought or UNSET,
        tool_calls=calls or UNSET,
    )
    return Choice(index, message, words.finish, logprobs)


def truncated(generation: Generation) -> int | UnsetType:
    """For those who let messages be left out."""
    return UNSET if generation.left_out is None else generation.left_out


def completion_id(generation: Generation) -> str:
    return f"chatcmpl-{generation.request.id}"
