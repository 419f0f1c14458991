"""The best of the sequences that a beam search has completed, and whether it may end: arithmetic on scores alone."""

from msgspec import Struct

from schemas.chunks import FinishReason, TokenLogprobs
from schemas.task import Beams


class Complete(Struct, frozen=True):
    """A sequence that nothing follows."""

    score: float
    ids: list[int]
    """Of the answer: no end token."""
    details: list[TokenLogprobs]
    """One for each id, or none at all."""
    reason: FinishReason


class Ranking:
    """As many complete sequences as there are beams, the best first; of equal ones the earlier first."""

    def __init__(self, beams: Beams, max_tokens: int) -> None:
        self._beams = beams
        self._max_tokens = max_tokens
        self.best: list[Complete] = []

    def score(self, total: float, length: int) -> float:
        """`total`: of the log-probabilities of `length` tokens, an end token among them."""
        return total / length**self._beams.length_penalty

    def add(self, complete: Complete) -> None:
        self.best.append(complete)
        self.best.sort(key=lambda each: -each.score)
        del self.best[self._beams.width :]

    def settled(self, total: float, length: int) -> bool:
        """Whether nothing is to be gained by going on; `total`: of the best sequence that is followed."""
        if len(self.best) < self._beams.width:
            return False
        if self._beams.early_stopping is True:
            return True
        if self._beams.early_stopping == "never" and self._beams.length_penalty > 0:
            length = self._max_tokens
        return self.best[-1].score >= self.score(total, length)
