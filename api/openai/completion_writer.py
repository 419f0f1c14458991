"""An answer in the words of OpenAI's older completions: as chunks, or whole."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.generation import Generation, Piece
from api.openai.choice import Words
from api.openai.cost import fingerprint, timings, usage
from api.openai.logprobs import legacy_logprobs
from api.resuming.event_ids import EventIds
from api.resuming.told import Told
from api.sse import DONE, event
from api.text.alignment import Shown
from api.text.answer import Finish
from schemas.completions import LegacyLogprobs, TextChoice, TextCompletion
from schemas.openai import CompletionUsage

_encode = msgspec.json.Encoder().encode
_SLOT = "\N{OBJECT REPLACEMENT CHARACTER}"


class CompletionWriter:
    """Writes what several generations, one for each prompt, say together."""

    def __init__(
        self,
        generations: Sequence[Generation],
        model: str,
        echoes: Sequence[str],
        wants_usage: bool,
        ids: EventIds | None = None,
    ) -> None:
        """`echoes`: for each choice the text that stands before what is generated; `ids`: of a stream's events."""
        self._generations = generations
        self._first = generations[0]
        self._known = next(each for each in generations if each.tokenizer is not None)
        self._model = model
        self._echoes = echoes
        self._ids = ids or EventIds("", [Told() for _ in echoes])
        self._wants_usage = wants_usage
        self._around = [
            self._event(TextChoice(_SLOT, index)).split(_encode(_SLOT)) for index, _ in enumerate(echoes)
        ]

    def piece(self, piece: Piece) -> bytes:
        """Its words, if there are any, and why the choice ended, if it did."""
        data = b"" if self._ids.begun(piece.choice) else self._echo(piece.choice)
        if piece.text or piece.shown:
            data += self._text(piece)
        if piece.finish:
            end = TextChoice("", piece.choice, finish_reason=_finish(piece.finish))
            data += self._ids.step(piece.choice) + self._event(end)
        return data

    def end(self, *, told: bool = False) -> bytes:
        """What it cost and where the time went, for those who asked, unless they were `told`; and the end of all."""
        end = self._ids.end() + DONE
        if told or (not self._wants_usage and not self._first.wish.timings):
            return end
        cost = usage(self._generations) if self._wants_usage else UNSET
        return self._ids.end() + event(_encode(self._completion([], cost, last=True))) + end

    def whole(self, said: Sequence[Words]) -> bytes:
        """The answer of a request without `stream`."""
        choices = [
            TextChoice(
                self._echoes[index] + each.text, index, self._logprobs(each.shown), _finish(each.finish)
            )
            for index, each in enumerate(said)
        ]
        return _encode(self._completion(choices, usage(self._generations), last=True))

    def _echo(self, index: int) -> bytes:
        echo, begin = self._echoes[index], self._ids.step(index)
        return begin + self._event(TextChoice(echo, index)) if echo else b""

    def _text(self, piece: Piece) -> bytes:
        name = self._ids.text(piece.choice, piece.text, len(piece.shown))
        if piece.shown:
            return name + self._event(TextChoice(piece.text, piece.choice, self._logprobs(piece.shown)))
        before, after = self._around[piece.choice]
        return b"".join((name, before, _encode(piece.text), after))

    def _logprobs(self, shown: Sequence[Shown]) -> LegacyLogprobs | None:
        texts = self._known.texts
        return None if texts is None else legacy_logprobs(texts, shown, self._first.wish.logprobs)

    def _event(self, choice: TextChoice) -> bytes:
        return event(_encode(self._completion([choice], None if self._wants_usage else UNSET)))

    def _completion(
        self, choices: list[TextChoice], cost: CompletionUsage | UnsetType | None, *, last: bool = False
    ) -> TextCompletion:
        return TextCompletion(
            id=f"cmpl-{self._first.origin.answer}",
            created=self._first.origin.created,
            model=self._model,
            system_fingerprint=fingerprint(self._known),
            choices=choices,
            usage=cost,
            service_tier=self._first.wish.tier or UNSET,
            timings=timings(self._generations) if last else UNSET,
        )


def _finish(reason: Finish) -> Literal["stop", "length"]:
    """No text is read as a call."""
    return "length" if reason == "length" else "stop"
