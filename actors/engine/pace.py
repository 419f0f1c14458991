"""How many tokens of prompt fit into a time."""

from msgspec import Struct, field

FEWEST = 4
"""Tokens of a chunk, however slow: fewer would cost about as much."""
EXTRA = 12
"""A chunk takes as long as its tokens and about so many more: weights, keys and values are read once for all of them."""
STRETCH = 1024
"""Tokens of a prompt over which its pace hardly changes."""
LEAST = 16
"""Tokens of a chunk that may stop in its midst: its parts hardly become shorter with fewer."""


class Pace(Struct):
    """How fast earlier chunks were, by how much of their prompts was read before them: the more, the slower."""

    tokens_s: float = 500.0
    """Of late, `EXTRA` ones counted."""
    _at_depth: dict[int, float] = field(default_factory=dict[int, float])
    _longest_s: float = 0.0
    """Of a chunk's parts between two pauses, for each of its tokens, of late; 0: not known."""

    def tokens(self, seconds: float, depth: int = 0) -> int:
        """That are read in so long, of a prompt of which `depth` tokens are read."""
        return max(FEWEST, int(self._speed(depth) * seconds) - EXTRA)

    def seconds(self, tokens: int, depth: int = 0) -> float:
        return (tokens + EXTRA) / self._speed(depth)

    def chunk(self, seconds: float, most: int) -> int:
        """Tokens whose parts take no longer each, however many parts they are."""
        if not self._longest_s:
            return min(most, LEAST)
        return int(min(most, max(LEAST, seconds / self._longest_s)))

    def note(self, tokens: int, seconds: float, depth: int = 0, longest_s: float = 0.0) -> None:
        """A chunk that took `seconds`; `longest_s`: its longest part, if it might have stopped."""
        if not tokens:
            return
        speed = 0.5 * self._speed(depth) + 0.5 * (tokens + EXTRA) / max(seconds, 1e-6)
        self._at_depth[depth // STRETCH] = self.tokens_s = speed
        if longest_s:
            self._note_part(longest_s / tokens)

    def _note_part(self, seconds: float) -> None:
        """What is late is often so for somebody else's doing; small chunks for long would be dear."""
        known = self._longest_s or seconds
        share = 0.1 if seconds > known else 0.5
        self._longest_s = (1 - share) * known + share * seconds

    def _speed(self, depth: int) -> float:
        """There, or where less was read."""
        known = max((at for at in self._at_depth if at <= depth // STRETCH), default=None)
        return self.tokens_s if known is None else self._at_depth[known]
