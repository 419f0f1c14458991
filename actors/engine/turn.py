"""What a step depends on besides the tasks: told by the clock of one process, so that others can do the same step."""

from math import inf

from msgspec import Struct


class Turn(Struct, frozen=True, array_like=True):
    """One step's share of what only a clock can tell."""

    now: float
    """Unix time: whose deadline has passed."""
    budget: int
    """Tokens of prompts to read, at most."""
    wait_s: float = inf
    """Those who decode wait so long, then a prompt stops where it is; ranks of a group, with clocks of their own, never stop."""
    spare_s: float = 0.0
    """And so much longer for a prompt that is read by then."""
    band: int = 0
    """Of the rows that decode, those that come to a token."""
