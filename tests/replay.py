"""The state that a log comes to."""

from collections.abc import Iterable

from schemas.events import Recorded
from schemas.state import State, apply


def replay(events: Iterable[Recorded], state: State | None = None) -> State:
    """The fold of `apply`, from nothing unless told otherwise."""
    folded = State() if state is None else state
    for recorded in events:
        folded = apply(folded, recorded)
    return folded
