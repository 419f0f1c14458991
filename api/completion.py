"""An answer in the words of OpenAI's chat completions: as chunks, or whole."""

import msgspec

from api.generation import Generation
from api.sse import event
from schemas.openai import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    CompletionUsage,
    Delta,
    Finish,
    PromptTokensDetails,
)

_encode = msgspec.json.Encoder().encode
_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class ChunkWriter:
    """Events of one stream; all but the words between them is written once."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._usage = None if generation.chat.wants_usage else msgspec.UNSET
        whole = self._event(Delta(content=_SLOT))
        self._before, self._after = whole.split(_encode(_SLOT))

    def role(self) -> bytes:
        return self._event(Delta(role="assistant", content=""))

    def text(self, text: str) -> bytes:
        return b"%b%b%b" % (self._before, _encode(text), self._after)

    def end(self) -> bytes:
        """Why it ended and, when asked for, what it cost."""
        final = self._event(Delta(), self._generation.finish)
        if self._usage is msgspec.UNSET:
            return final
        return final + event(_encode(self._chunk([], usage(self._generation))))

    def _event(self, delta: Delta, finish: Finish | None = None) -> bytes:
        return event(_encode(self._chunk([ChunkChoice(0, delta, finish_reason=finish)], self._usage)))

    def _chunk(
        self, choices: list[ChunkChoice], cost: CompletionUsage | msgspec.UnsetType | None
    ) -> ChatCompletionChunk:
        generation = self._generation
        return ChatCompletionChunk(
            id=completion_id(generation),
            created=generation.created,
            model=generation.chat.model,
            system_fingerprint=fingerprint(generation),
            choices=choices,
            usage=cost,
        )


def whole(generation: Generation, text: str) -> bytes:
    """The answer of a request without `stream`."""
    completion = ChatCompletion(
        id=completion_id(generation),
        created=generation.created,
        model=generation.chat.model,
        choices=[Choice(0, AnswerMessage(text), generation.finish)],
        usage=usage(generation),
        system_fingerprint=fingerprint(generation),
    )
    return _encode(completion)


def usage(generation: Generation) -> CompletionUsage:
    cost = generation.usage
    return CompletionUsage(
        prompt_tokens=cost.prompt_tokens,
        completion_tokens=cost.completion_tokens,
        total_tokens=cost.prompt_tokens + cost.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cost.cached_tokens),
    )


def completion_id(generation: Generation) -> str:
    return f"chatcmpl-{generation.request.id}"


def fingerprint(generation: Generation) -> str:
    """Changes with the model's files: the artifact's name ends in their digest."""
    return f"fp_{generation.artifact.rpartition('-')[2][:16]}"
