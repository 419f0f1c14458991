"""How much of one choice a client has been told: counted in what it reads, not in how that was cut into events."""

import re
from zlib import crc32

from msgspec import Struct

from api.reading.events import AnswerEvent, CallArguments, CallBegan

_MARK = re.compile(r"([0-9a-f]{1,12})\.([0-9a-f]{1,12})\.([0-9a-f]{1,8})")


class Told(Struct):
    """Counts on; `mark` is what the id of an event says of it.

    Units are: that the choice has begun, each character of words, thoughts and arguments, each call that begins,
    and the end. Log-probabilities are counted beside them: they come with the text, but not one for each character.
    """

    units: int = 0
    shown: int = 0
    """Tokens whose log-probabilities were sent."""
    sum: int = 0
    """CRC-32 of the text: what is made again must be the same."""

    @property
    def mark(self) -> bytes:
        return b":%x.%x.%x" % (self.units, self.shown, self.sum)

    def text(self, text: str) -> None:
        self.units += len(text)
        self.sum = crc32(text.encode(), self.sum)

    def step(self, name: str = "") -> None:
        """The beginning, the end, or a call of the tool `name`."""
        self.units += 1
        if name:
            self.sum = crc32(name.encode(), self.sum)


def told_of(mark: str) -> Told | None:
    """What `mark`, without its colon, says; None when it says nothing."""
    read = _MARK.fullmatch(mark)
    return None if read is None else Told(*(int(each, 16) for each in read.groups()))


def text_of(event: AnswerEvent) -> str:
    """What of it is counted."""
    match event:
        case CallBegan():
            return event.name
        case CallArguments():
            return event.piece
        case _:
            return event.text
