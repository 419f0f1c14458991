"""Which messages of a conversation are left out, the oldest first, when it is too long for its model.

What belongs together goes together: a user's message and all that follows it until the next one, and calls with
what came of them. Instructions stay, and so does the last turn.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from schemas.chat import Message

RESERVE_SHARE, MOST_RESERVE = 4, 1024
"""Room for an answer whose length nobody gave: a quarter of the context, and so many tokens at most."""
INSTRUCTIONS = ("system", "developer")

Turn = list[int]
"""Messages that stay together, by their numbers."""


class Shortened(Struct, frozen=True):
    """A conversation without its first turns."""

    messages: list[Message]
    dropped: int
    """Messages that were left out."""


def reserve(context: int, limit: int | None, min_tokens: int) -> int:
    """Tokens that are to be left for the answer; `limit`: as many as were asked for."""
    return limit or max(min_tokens, 1, min(MOST_RESERVE, context // RESERVE_SHARE))


def shorten(messages: list[Message], fits: Callable[[list[Message]], bool]) -> Shortened:
    """Without as few turns as it takes; without all that may be left out when nothing `fits`."""
    turns = turns_of(messages)
    low, high = 0, len(turns)
    while low < high:
        middle = (low + high) // 2
        if fits(_without(messages, turns[:middle]).messages):
            high = middle
        else:
            low = middle + 1
    return _without(messages, turns[:low])


def _without(messages: Sequence[Message], turns: Sequence[Turn]) -> Shortened:
    dropped = {at for turn in turns for at in turn}
    return Shortened([said for at, said in enumerate(messages) if at not in dropped], len(dropped))


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """All that may be left out, the oldest first."""
    turns: list[Turn] = [[]]
    calls: dict[str, int] = {}
    for at, message in enumerate(messages):
        if message.role in INSTRUCTIONS:
            continue
        if message.role == "user":
            turns.append([])
        asked = calls.get(message.tool_call_id or "", len(turns) - 1)
        if asked < len(turns) - 1:  # what came of a call joins all that was said since
            turns[asked:] = [[each for turn in turns[asked:] for each in turn]]
            calls = {call: min(turn, asked) for call, turn in calls.items()}
        turns[-1].append(at)
        calls.update({call.id: len(turns) - 1 for call in message.tool_calls or ()})
    return [turn for turn in turns[:-1] if turn]
