"""A call that stops in its midst when its time is up, so that others go on, and is continued later on the same thread.

It is a greenlet: what it calls may be anybody's code and knows nothing of it, as long as `pause` is reached now and then.
"""

from collections.abc import Callable
from math import inf
from time import perf_counter

import mlx.core as mx
from greenlet import getcurrent, greenlet

from actors.engine.arrays import evaluate


class Pausable:
    """A call, until it is over or dropped."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.longest_s = 0.0
        """Between two places where it might have stopped, of those times when it might."""
        self._call = _Call(call)

    def go_on(self, deadline: float = inf) -> bool:
        """Whether it is over; raises what the call raises. It stops at the first pause after `deadline` (perf_counter)."""
        call = self._call
        call.deadline, call.passed = deadline, perf_counter()
        call.switch()
        call.note()
        self.longest_s = call.longest_s
        return call.dead

    def drop(self) -> None:
        """It will not go on; what it holds is free."""
        self._call.throw()


class _Call(greenlet):
    deadline = inf
    longest_s = 0.0
    passed = 0.0

    def note(self) -> float:
        now = perf_counter()
        if self.deadline < inf:
            self.longest_s = max(self.longest_s, now - self.passed)
        self.passed = now
        return now


def pause(*arrays: mx.array) -> None:
    """Here a `Pausable` may stop; these arrays are computed before, unless it has all the time it needs."""
    call = getcurrent()
    if isinstance(call, _Call) and call.deadline < inf:
        evaluate(*arrays)
        if call.note() >= call.deadline and call.parent is not None:
            call.parent.switch()
