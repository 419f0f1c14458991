"""What a step depends on besides the tasks: told by the clock of one process, so that others can do the same step."""

from msgspec import Struct


class Turn(Struct, frozen=True, array_like=True):
    """One step's share of what only a clock can tell."""

    now: float
    """Unix time: whose deadline has passed."""
    budget: int
    """Tokens of prompts to read, at most."""
    band: int = 0
    """Of the rows that decode, those that come to a token."""
