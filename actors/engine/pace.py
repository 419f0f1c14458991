"""How many tokens of prompt fit into a time."""

from msgspec import Struct, field

FEWEST = 4
"""Tokens of a chunk, however slow: fewer would cost about as much."""
EXTRA = 12
"""A chunk takes as long as its tokens and about so many more: weights, keys and values are read once for all of them."""
STRETCH = 1024
"""Tokens of a prompt over which its pace hardly changes."""


class Pace(Struct):
    """How fast earlier chunks were, by how much of their prompts was read before them: the more, the slower."""

    tokens_s: float = 500.0
    """Of late, `EXTRA` ones counted."""
    _at_depth: dict[int, float] = field(default_factory=dict[int, float])

    def tokens(self, seconds: float, depth: int = 0) -> int:
        """Of a prompt of which `depth` tokens are read."""
        return max(FEWEST, int(self._speed(depth) * seconds) - EXTRA)

    def note(self, tokens: int, seconds: float, depth: int = 0) -> None:
        speed = 0.5 * self._speed(depth) + 0.5 * (tokens + EXTRA) / max(seconds, 1e-6)
        self._at_depth[depth // STRETCH] = self.tokens_s = speed

    def _speed(self, depth: int) -> float:
        """There, or where less was read."""
        known = max((at for at in self._at_depth if at <= depth // STRETCH), default=None)
        return self.tokens_s if known is None else self._at_depth[known]
