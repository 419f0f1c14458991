"""Which models leave a disk so that another one fits."""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct


class Kept(Struct, frozen=True):
    """A model's folder that may go, and the bytes of the disk that this gives back."""

    folder: Path
    bytes: int


def leaving(excess: int, kept: Sequence[Kept]) -> list[Kept]:
    """The first of `kept` that give back `excess` bytes together; all, where that is too little.

    None goes that a larger one behind it has made needless: of such the last ones stay.
    """
    going: list[Kept] = []
    for each in kept:
        if excess <= 0:
            break
        going.append(each)
        excess -= each.bytes
    for each in reversed(list(going)):
        if excess + each.bytes <= 0:
            going.remove(each)
            excess += each.bytes
    return going
