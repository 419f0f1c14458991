"""Whether a task ends the runners that work on it: what speaks against it, and when that is enough.

A runner's death ends all requests that it carries, so a death alone says little. Its blame is shared out among the
requests that had brought no token yet in that life of the runner: what kills does so before it gets anywhere. A
crash weighs 1; a SIGKILL 1/2, since anybody may have sent it, or the system when memory ran short. Whoever bears any
blame is a suspect, and suspects are tried one at a time, so that the next death is clear; a new token clears of
everything. At 2 a task is poison: alone in its runner it ends two of them, and is not tried a third time.
"""

from schemas.instance import Fate

WEIGHT: dict[Fate, float] = {"fell": 1.0, "killed": 0.5, "left": 0.0, "": 0.0}
GUILTY = 2.0


class Suspicion:
    """What speaks against one request."""

    def __init__(self) -> None:
        self.blame = 0.0

    @property
    def suspect(self) -> bool:
        return self.blame > 0

    @property
    def guilty(self) -> bool:
        return self.blame >= GUILTY

    def note_death(self, fate: Fate, among: int) -> None:
        """A runner ended in which this was one of `among` requests that had brought no token."""
        self.blame += WEIGHT[fate] / among

    def clear(self) -> None:
        self.blame = 0.0
