"""Where a request costs least; all costs are in tokens of prompt that an instance could read instead."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from schemas.ids import InstanceId

RUNNING_TOKENS = 128
"""What each sequence that runs there costs a new one: about so many steps of both are longer for the other's row.

Chosen by simulation (`tests/bench/fleet.py`): with less a popular prefix is crowded, with more what is kept is
ignored; from 64 to 256 hits and times to the first token hardly change.
"""


class Candidate(Struct, frozen=True):
    """An instance that could take the request, as far as it is known."""

    instance: InstanceId
    cached: int = 0
    """Tokens of the prompt that it keeps, or will when it has read what was sent there before."""
    coming: int = 0
    """Those of them that it has yet to read."""
    unread: int = 0
    """Tokens that it has yet to read before this prompt."""
    running: int = 0
    """Sequences that it has."""


def cost(prompt: int, candidate: Candidate) -> int:
    """Of a request with `prompt` tokens to read, those of earlier attempts included.

    What is read for a sibling is read for this one too: it costs nothing, and no more than to read it elsewhere.
    """
    own = max(0, prompt - candidate.cached)
    others = max(0, candidate.unread - candidate.coming)
    return own + others + RUNNING_TOKENS * candidate.running


def ranked(
    prompt: int, candidates: Iterable[Candidate], shuffle: Callable[[list[Any]], None] = random.shuffle
) -> list[InstanceId]:
    """The cheapest first, equals in random order."""
    mixed = list(candidates)
    shuffle(mixed)
    return [each.instance for each in sorted(mixed, key=lambda each: cost(prompt, each))]
