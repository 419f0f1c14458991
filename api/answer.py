"""Ids to the text that a client is shown: detokenised, and cut at stop strings."""

from collections.abc import Iterable

from api.detokenizer import Detokenizer
from api.stop import StopStrings


class Answer:
    """The text of one sequence, a piece at a time."""

    def __init__(self, detokenizer: Detokenizer, stops: tuple[str, ...]) -> None:
        self._detokenizer = detokenizer
        self._stops = StopStrings(stops) if stops else None

    @property
    def stopped(self) -> bool:
        """A stop string is complete: nothing that follows is wanted."""
        return self._stops is not None and self._stops.hit is not None

    def add(self, ids: Iterable[int]) -> str:
        text = self._detokenizer.add(ids)
        return text if self._stops is None else self._stops.add(text)

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        text = self._detokenizer.end()
        return text if self._stops is None else self._stops.add(text) + self._stops.end()
