"""Demands that came to nothing a moment ago: hundreds of nodes may make the same one each second."""

from collections.abc import Callable
from time import monotonic

from actors.master.demand import PATIENCE_S
from schemas.commands import DemandModel, Done
from schemas.ids import ModelId
from schemas.presence import concerns_places
from schemas.refused import Refused
from schemas.state import State

SAME_S = 1.0
"""What stood in the way may be idle by then; seconds."""


class Unmet:
    """The same answer does for all of them, until a place may have come free."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._answers: dict[tuple[ModelId, bool], Done | Refused] = {}
        self._since = clock()
        self._state = State()

    def answer(self, order: DemandModel, state: State) -> Done | Refused | None:
        """What whoever has waited as long was told; None: that is to be found out."""
        now = self._clock()
        if now - self._since >= SAME_S or concerns_places(self._state, state):
            self._answers.clear()
            self._since = now
        self._state = state
        return self._answers.get(_key(order))

    def note(self, order: DemandModel, answer: Done | Refused) -> None:
        """Nothing was decided."""
        self._answers[_key(order)] = answer


def _key(order: DemandModel) -> tuple[ModelId, bool]:
    return order.model, order.waited_s >= PATIENCE_S
