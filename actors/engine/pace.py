"""How many tokens of prompt fit into a time."""

from msgspec import Struct

FEWEST = 16
"""Tokens of a chunk, however slow: fewer would cost about as much."""


class Pace(Struct):
    """How many tokens a second earlier chunks had."""

    tokens_s: float = 500.0

    def tokens(self, seconds: float) -> int:
        return max(FEWEST, int(self.tokens_s * seconds))

    def note(self, tokens: int, seconds: float) -> None:
        if tokens >= FEWEST:
            self.tokens_s = 0.5 * self.tokens_s + 0.5 * tokens / max(seconds, 1e-6)
