"""How fast each model's requests are served here, and so when it is worth to ask again."""

from collections import deque
from time import monotonic

from schemas.ids import ModelId

WINDOW_S = 60.0
COUNTED = 256
"""Most answers that are remembered of a model."""
LONGEST_S = 600.0


class Drain:
    """Answers per second of each model, over the last minute."""

    def __init__(self) -> None:
        self._ends: dict[ModelId, deque[float]] = {}

    def note(self, model: ModelId) -> None:
        """One more of its requests is answered."""
        self._ends.setdefault(model, deque(maxlen=COUNTED)).append(monotonic())

    def rate(self, model: ModelId) -> float:
        """Answers per second; 0: too few are known."""
        ends = self._ends.get(model, deque[float]())
        now = monotonic()
        while ends and now - ends[0] > WINDOW_S:
            ends.popleft()
        return (len(ends) - 1) / (now - ends[0]) if len(ends) > 1 and now > ends[0] else 0.0

    def seconds_for(self, requests: int, model: ModelId, default_s: float) -> float:
        """How long it takes to serve as many; `default_s` while nothing is known."""
        rate = self.rate(model)
        return min(LONGEST_S, requests / rate) if rate else default_s
