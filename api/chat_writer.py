"""An answer in the words of OpenAI's chat completions: as chunks, or whole."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from api.choice import Said
from api.cost import fingerprint, timings, usage
from api.generation import Generation, Piece
from api.logprobs import chat_logprobs
from api.sse import event
from schemas.chat import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    Finish,
)
from schemas.openai import CompletionUsage

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
        if piece.shown:
            data = self._event(piece.choice, Delta(content=piece.text), logprobs=self._logprobs(piece))
        elif piece.text:
            before, after = self._around[piece.choice]
            data = b"%b%b%b" % (before, _encode(piece.text), after)
        else:
            data = b""
        return data + self._event(piece.choice, Delta(), piece.finish) if piece.finish else data

    def end(self) -> bytes:
        """What it cost and where the time went, for those who asked."""
        if not self._wants_usage and not self._generation.wish.timings:
            return b""
        cost = usage([self._generation]) if self._wants_usage else UNSET
        return event(_encode(self._chunk([], cost, last=True)))

    def _logprobs(self, piece: Piece) -> ChoiceLogprobs | None:
        texts = self._generation.texts
        return None if texts is None else chat_logprobs(texts, piece.shown)

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
        )


def whole(generation: Generation, model: str, said: Iterable[Said]) -> bytes:
    """The answer of a request without `stream`."""
    completion = ChatCompletion(
        id=completion_id(generation),
        created=generation.created,
        model=model,
        choices=[_choice(generation, index, each) for index, each in enumerate(said)],
        usage=usage([generation]),
        system_fingerprint=fingerprint(generation),
        service_tier=generation.wish.tier or UNSET,
        timings=timings([generation]),
    )
    return _encode(completion)


def _choice(generation: Generation, index: int, said: Said) -> Choice:
    texts = generation.texts
    logprobs = None if texts is None else chat_logprobs(texts, said.shown)
    return Choice(index, AnswerMessage(said.text), said.finish, logprobs)


def completion_id(generation: Generation) -> str:
    return f"chatcmpl-{generation.request.id}"
