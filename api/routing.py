"""Where a request costs least; all costs are in tokens of prompt that an instance could read instead."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from schemas.ids import InstanceId

RUNNING_TOKENS = 128
"""What each sequence that runs there costs a new one: about so many steps of both are longer for the other's row.

In terms of reading: on two CPU cores a row more makes a step of a 16M model 0.3 ms longer, and 128 such steps
take the time in which it reads 250 tokens; on accelerators a row costs less than a token of prompt does.
"""
WAITING_SHARE = 0.5
"""Prompts that others wait for are read in turns with this one, the shortest first: it waits for a part of them."""


class Candidate(Struct, frozen=True):
    """An instance that could take the request, as far as it is known."""

    instance: InstanceId
    cached: int = 0
    """Tokens of the prompt that it keeps, or will soon."""
    unread: int = 0
    """Tokens of other prompts that it has yet to read."""
    running: int = 0
    """Sequences that it has."""


def cost(prompt: int, candidate: Candidate) -> float:
    """Of a request with `prompt` tokens to read, those of earlier attempts included."""
    own = max(0, prompt - candidate.cached)
    return own + WAITING_SHARE * candidate.unread + RUNNING_TOKENS * candidate.running


def ranked(
    prompt: int, candidates: Iterable[Candidate], shuffle: Callable[[list[Any]], None] = random.shuffle
) -> list[InstanceId]:
    """The cheapest first, equals in random order."""
    mixed = list(candidates)
    shuffle(mixed)
    return [each.instance for each in sorted(mixed, key=lambda each: cost(prompt, each))]
