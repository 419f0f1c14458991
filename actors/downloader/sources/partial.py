"""A file that is not whole yet: it grows at its end, outlives its process, and takes its place when it is right."""

import hashlib
import os
from pathlib import Path
from typing import Protocol

from actors.downloader.sources.manifest import HubFile

_PIECE = 1024 * 1024


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | bytearray, /) -> None: ...

    def hexdigest(self) -> str: ...


class Partial:
    """The bytes of `file` that are here so far; all methods block, and one writer at a time may use them."""

    def __init__(self, file: HubFile, path: Path) -> None:
        self.file = file
        self.path = path
        self.size = 0
        self._digest = _new_digest(file)

    def open(self) -> None:
        """Take up what an earlier process has left."""
        with self.path.open("a+b") as opened:
            if opened.tell() > self.file.size:
                opened.truncate(0)
            opened.seek(0)
            while piece := opened.read(_PIECE):
                self._digest.update(piece)
                self.size += len(piece)

    def clear(self) -> None:
        """Begin at the first byte."""
        os.truncate(self.path, 0)
        self.size, self._digest = 0, _new_digest(self.file)

    def append(self, data: bytes) -> None:
        """Once this returns, killing the process loses none of `data`."""
        with self.path.open("ab", buffering=0) as opened:
            rest = memoryview(data)
            while rest:
                written = opened.write(rest)
                self._digest.update(bytes(rest[:written]))
                self.size += written
                rest = rest[written:]

    @property
    def is_right(self) -> bool:
        """Whether these are the bytes that the hub has listed."""
        expected = self.file.sha256 or self.file.blob
        return self.size == self.file.size and (not expected or self._digest.hexdigest() == expected)

    def move_to(self, path: Path) -> None:
        """Put the whole file into its place, after it has reached the disk."""
        with self.path.open("rb") as opened:
            os.fsync(opened.fileno())
        self.path.replace(path)


def _new_digest(file: HubFile) -> Digest:
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
