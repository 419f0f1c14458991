"""Which models leave a disk so that another one fits."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct


class Kept(Struct, frozen=True):
    """A model's folder that may go, and the bytes of the disk that this gives back after those before it went."""

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


def given_back(folders: Iterable[Path], shelf: Path) -> Iterator[Kept]:
    """What each gives back of `shelf` when they go in this order: what has a name in a folder that stays is not given back."""
    names = Counter(_inode(stat) for stat in _stats(shelf))
    for folder in folders:
        count = 0
        for stat in _stats(folder):
            names[_inode(stat)] -= 1
            if not names[_inode(stat)]:
                count += _bytes(stat)
        yield Kept(folder, count)


def allocated(folder: Path) -> int:
    """Bytes of the disk that what is in `folder` takes: of a file with holes, and with several names, once what is there."""
    return sum({_inode(stat): _bytes(stat) for stat in _stats(folder)}.values())


def _stats(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # it goes at this moment
                yield (Path(parent) / name).lstat()


def _inode(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _bytes(stat: os.stat_result) -> int:
    return stat.st_blocks * 512
