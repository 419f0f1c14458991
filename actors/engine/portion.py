"""Tokens of prompts that go through the model at once, if not in one go."""

from collections.abc import Callable, Sequence
from time import perf_counter

from actors.engine.attention import quick_attention
from actors.engine.pausable import Pausable
from actors.engine.reading import Reading


class Portion:
    """The next tokens of one prompt, or several short prompts side by side."""

    def __init__(self, readings: Sequence[Reading], tokens: int, read: Callable[[], None]) -> None:
        self.readings = readings
        self.tokens = tokens
        self.depth = readings[0].read
        """Tokens that were read before them."""
        self.spent_s = 0.0
        self._call = Pausable(read)

    @property
    def longest_s(self) -> float:
        """Of its parts, between two places where it might have stopped."""
        return self._call.longest_s

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(reading.over for reading in self.readings)

    def go_on(self, deadline: float) -> bool:
        """Whether it is read; raises what the model raises."""
        began = perf_counter()
        with quick_attention():
            done = self._call.go_on(deadline)
        self.spent_s += perf_counter() - began
        return done

    def drop(self) -> None:
        self._call.drop()
