"""The ids of one stream's events: `STEM:MARK`, with a mark for each choice, and `:end` when all of them are over."""

from collections.abc import Sequence
from zlib import crc32

from api.resuming.told import Told

END = "end"


class EventIds:
    """Each call is one event, and returns the line that stands before its data; every event costs this."""

    def __init__(self, stem: str, told: Sequence[Told]) -> None:
        """`told`: what the client knows of each choice already."""
        self._before = f"id: {stem}".encode()
        self._told = told
        self._marks = [each.mark for each in told]
        self._alone = len(told) == 1

    def begun(self, choice: int) -> bool:
        return self._told[choice].units > 0

    def text(self, choice: int, text: str, shown: int = 0) -> bytes:
        """Words of any kind; `shown`: tokens whose log-probabilities the event has too."""
        told = self._told[choice]
        told.units += len(text)
        told.sum = crc32(text.encode(), told.sum)
        told.shown += shown
        if self._alone:  # most answers: what follows is the same, in one call
            return b"%b:%x.%x.%x\n" % (self._before, told.units, told.shown, told.sum)
        return self._line(choice, told)

    def step(self, choice: int, name: str = "", shown: int = 0) -> bytes:
        """The beginning of a choice, its end, or a call of the tool `name`."""
        told = self._told[choice]
        told.step(name)
        told.shown += shown
        return self._line(choice, told)

    def end(self) -> bytes:
        """What follows the last choice."""
        return b"%b%b:%b\n" % (self._before, b"".join([each.mark for each in self._told]), END.encode())

    def _line(self, choice: int, told: Told) -> bytes:
        self._marks[choice] = told.mark
        return b"%b%b\n" % (self._before, b"".join(self._marks))
