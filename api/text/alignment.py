"""Log-probabilities beside text: a token is shown when the last whole character of its text is."""

from collections import deque
from typing import NamedTuple

from schemas.chunks import TokenLogprobs


class Shown(NamedTuple):
    """A token whose text was sent; `offset` is where that begins, in characters of the answer."""

    id: int
    logprobs: TokenLogprobs
    offset: int


class _Pending(NamedTuple):
    shown: Shown
    end: int


class Alignment:
    """Tokens of one sequence, in order, each held until its text was sent.

    A token that brings no text (the first bytes of a character, say) goes with the next one that does.
    """

    def __init__(self) -> None:
        self._open: list[Shown] = []
        self._pending: deque[_Pending] = deque()
        self._made = 0
        self._sent = 0

    def token(self, token_id: int, logprobs: TokenLogprobs, characters: int) -> None:
        """The next token, and how much longer it made the text."""
        self._open.append(Shown(token_id, logprobs, self._made))
        self.grew(characters)

    def grew(self, characters: int) -> None:
        self._made += characters
        if characters:
            self._pending += [_Pending(shown, self._made) for shown in self._open]
            self._open.clear()

    def sent(self, characters: int) -> list[Shown]:
        """Tokens that are to be shown, now that so much more of the text was sent."""
        self._sent += characters
        released: list[Shown] = []
        while self._pending and self._pending[0].end <= self._sent:
            released.append(self._pending.popleft().shown)
        return released

    def end(self, *, cut: bool) -> list[Shown]:
        """The rest; `cut`: what follows the text that was sent was not wanted, nor are its tokens."""
        rest = [*(pending.shown for pending in self._pending), *self._open]
        self._pending.clear()
        self._open.clear()
        return [shown for shown in rest if shown.offset < self._sent] if cut else rest
