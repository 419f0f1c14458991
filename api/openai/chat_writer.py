"""An answer in the words of OpenAI's chat completions: as chunks, or whole."""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from api.generation import Generation, Piece
from api.openai.choice import Words
from api.openai.cost import fingerprint, timings, usage
from api.openai.logprobs import chat_logprobs
from api.reading.events import AnswerEvent, CallArguments, CallBegan, Said, Thought
from api.resuming.event_ids import EventIds
from api.resuming.told import text_of
from api.sse import DONE, event
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

    def __init__(self, generation: Generation, model: str, wants_usage: bool, ids: EventIds) -> None:
        self._generation = generation
        self._ids = ids
        self._model = model
        self._wants_usage = wants_usage
        self._choices = range(generation.wish.n)
        self._around = [
            self._event(index, Delta(content=_SLOT)).split(_encode(_SLOT)) for index in self._choices
        ]

    def role(self) -> bytes:
        """Of each choice that the client has not heard of."""
        said = Delta(role="assistant", content="")
        new = [index for index in self._choices if not self._ids.begun(index)]
        return b"".join([self._ids.step(index) + self._event(index, said) for index in new])

    def piece(self, piece: Piece) -> bytes:
        """Its words, if there are any, and why the choice ended, if it did."""
        if piece.text and not piece.shown:
            before, after = self._around[piece.choice]
            data = b"".join((self._ids.text(piece.choice, piece.text), before, _encode(piece.text), after))
        else:
            data = self._events(piece) if piece.shown or piece.events else b""
        if not piece.finish:
            return data
        return data + self._ids.step(piece.choice) + self._event(piece.choice, Delta(), piece.finish)

    def _events(self, piece: Piece) -> bytes:
        """One for each delta; log-probabilities stand in the first."""
        choice, logprobs, shown = piece.choice, self._logprobs(piece), len(piece.shown)
        data = b""
        for said in piece.events or [Said(piece.text)]:
            name = (
                self._ids.step(choice, said.name, shown)
                if isinstance(said, CallBegan)
                else self._ids.text(choice, text_of(said), shown)
            )
            data += name + self._event(choice, delta_of(said), logprobs=logprobs)
            logprobs, shown = None, 0
        return data

    def end(self, *, told: bool = False) -> bytes:
        """What it cost and where the time went, for those who asked, unless they were `told`; and the end of all."""
        end = self._ids.end() + DONE
        if told or (not self._wants_usage and not self._generation.wish.timings):
            return end
        cost = usage([self._generation]) if self._wants_usage else UNSET
        return self._ids.end() + event(_encode(self._chunk([], cost, last=True))) + end

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
            created=generation.origin.created,
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
        created=generation.origin.created,
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
    return f"chatcmpl-{generation.origin.answer}"
