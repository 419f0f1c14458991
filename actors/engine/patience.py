"""How long those who decode wait for somebody else's prompt."""

from msgspec import Struct

WAIT_S = 0.2
"""Longest in one step for a part of a prompt; seconds."""
WAIT_STEPS = 1.0
"""And no longer than so many of their own steps: what a part of a prompt leaves in the caches slows these too."""
CROWD_S = 0.15
"""But so long while as many wait for their first token as decode: to read them in crumbs costs everybody more."""
ALONE_S = 0.1
"""While nobody decodes: cancels and shorter prompts wait as long."""
SPARE_S = 0.15
"""A prompt that is read at once may take so much longer, since a crumb in each step would let it wait for many steps;"""
SPARE_STEPS = 0.25
"""but the next only when this has come together again, by so many of their steps for each step."""


class Patience(Struct):
    """A bucket of time: parts of long prompts take what comes in with each step, whole short ones what was saved too."""

    wait_s: float = ALONE_S
    """In this step."""
    spare_s: float = SPARE_S
    """Saved."""

    def begin(self, decoding: int, reading: int, step_s: float) -> None:
        """A step in which so many rows decode, whose steps take `step_s`, and so many are read."""
        if not decoding:
            self.wait_s, self.spare_s = ALONE_S, SPARE_S
            return
        self.wait_s = min(WAIT_S, WAIT_STEPS * step_s)
        self.spare_s = min(SPARE_S, self.spare_s + SPARE_STEPS * step_s)
        if reading >= max(2, decoding):
            self.wait_s = max(CROWD_S, self.wait_s)

    def note(self, seconds: float) -> None:
        """So long they have waited until the last prompt that was read at once."""
        self.spare_s = max(0.0, self.spare_s - max(0.0, seconds - self.wait_s))
