"""Which lane is asked first: the most urgent one, but a lane that was passed over often enough has its turn."""

from schemas.task import LANES, Lane

TURN = 8
"""So many tasks of more urgent lanes go before one that waits in a less urgent one."""


class LaneOrder:
    """Of one worker; it knows what it pulled, and of what waits only what it asked for."""

    def __init__(self) -> None:
        self._passed: dict[Lane, int] = dict.fromkeys(LANES, 0)
        """Tasks of more urgent lanes since the lane was asked last."""

    def lanes(self) -> list[Lane]:
        """All of them; the least urgent one that is due comes first."""
        due: list[Lane] = [lane for lane in reversed(LANES) if self._passed[lane] >= TURN]
        return due + [lane for lane in LANES if lane not in due]

    def note(self, lane: Lane, *, found: bool) -> None:
        """It was asked, and had a task or none."""
        self._passed[lane] = 0
        if found:
            for other in LANES[LANES.index(lane) + 1 :]:
                self._passed[other] += 1
