"""Leaves out of an answer that is read from its beginning what its client has been told."""

from collections.abc import Sequence

from msgspec.structs import replace

from api.errors import ApiError
from api.generation import Piece
from api.reading.events import AnswerEvent, CallArguments, CallBegan
from api.resuming.told import Told, text_of


class Skip:
    """`rest` of every piece, in order; raises `ApiError` when the answer is another one than that which was told."""

    def __init__(self, told: Sequence[Told]) -> None:
        self._known = {
            choice: _Known(each) for choice, each in enumerate(told) if each.units > 1 or each.shown
        }

    def rest(self, piece: Piece) -> Piece | None:
        """None when the client knows all of it."""
        known = self._known.get(piece.choice)
        if known is None:
            return piece
        rest = known.cut(piece)
        if known.passed:
            del self._known[piece.choice]
        return rest


class _Known:
    """One choice: what of it has been `told`, and how much of that has come by."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._past = Told(units=1)

    @property
    def passed(self) -> bool:
        return self._past.units == self._told.units and self._past.shown == self._told.shown

    @property
    def _left(self) -> int:
        return self._told.units - self._past.units

    def cut(self, piece: Piece) -> Piece | None:
        text = self._words(piece.text)
        events = [rest for event in piece.events if (rest := self._event(event)) is not None]
        shown = piece.shown[self._shown(len(piece.shown)) :]
        finish = piece.finish if not self._left else None
        if piece.finish and self._left:
            self._pass_end()
        rest = replace(piece, text=text, events=events, shown=shown, finish=finish)
        return rest if text or events or shown or finish else None

    def _words(self, text: str) -> str:
        """What of `text` is new."""
        known = text[: self._left]
        if known:
            self._past.text(known)
            self._compare()
        return text[len(known) :]

    def _event(self, event: AnswerEvent) -> AnswerEvent | None:
        if isinstance(event, CallBegan):
            if self._left:
                self._past.step(event.name)
                self._compare()
                return None
            return event
        words = text_of(event)
        rest = self._words(words)
        if isinstance(event, CallArguments):
            return replace(event, piece=rest) if rest else None
        return replace(event, text=rest) if rest else None

    def _shown(self, count: int) -> int:
        """How many of so many tokens the client knows."""
        known = min(count, self._told.shown - self._past.shown)
        self._past.shown += known
        return known

    def _pass_end(self) -> None:
        self._past.step()
        if self._left:
            raise diverged()
        self._compare()

    def _compare(self) -> None:
        if not self._left and self._past.sum != self._told.sum:
            raise diverged()


def diverged() -> ApiError:
    """Another machine's arithmetic, say, or weights that were replaced by others of the same shape."""
    return ApiError(
        409,
        "The answer cannot be resumed: made again, it is not the one that was begun. Send the request without "
        "Last-Event-ID for a new one.",
        code="answer_diverged",
    )
