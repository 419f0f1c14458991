"""How long something has been wrong, by this process's own clock: when to act, and when to look again."""

from collections.abc import Mapping


class Complaints:
    """Notes when a complaint was first heard; it is ripe when it has lasted for its delay.

    Clocks of several machines are never compared: a new leader begins to count anew.
    """

    def __init__(self) -> None:
        self._first: dict[str, float] = {}

    def ripe(self, complaints: Mapping[str, float], now: float) -> tuple[frozenset[str], float | None]:
        """Which of `complaints` (name -> seconds to wait) are ripe, and in how many seconds the next one will be.

        A complaint that is no longer made is forgotten.
        """
        self._first = {name: self._first.get(name, now) for name in complaints}
        remaining = {name: self._first[name] + delay - now for name, delay in complaints.items()}
        ripe = frozenset(name for name, left in remaining.items() if left <= 0)
        return ripe, min((left for left in remaining.values() if left > 0), default=None)
