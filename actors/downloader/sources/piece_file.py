"""A file that comes in pieces, in any order: it outlives its process, and takes its place when it is right."""

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from actors.downloader.sources.manifest import FOLDER
from actors.downloader.sources.spare import require_room
from schemas.manifest import ListedFile

_RECORD = struct.Struct("<Q32s")
_READ_BYTES = 1024 * 1024


class Piece(Struct, frozen=True):
    """What is here of one piece: so many bytes from its beginning, and, once it is whole, their SHA-256."""

    size: int = 0
    digest: bytes = b""


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class PieceFile:
    """One file of a model on this disk; all methods block, and one writer at a time may use a piece.

    Bytes gather in a sparse file beside a journal with one record a piece; the journal stays when the file is whole,
    so that a damaged piece is found, and mended alone.
    """

    def __init__(self, file: ListedFile, piece_bytes: int, folder: Path) -> None:
        self.file = file
        self.piece_bytes = piece_bytes
        self.place = folder / file.name
        self.gathering = folder / FOLDER / file.partial_name
        self.journal = self.gathering.with_suffix(".pieces")
        if self.place.exists() and not self.is_whole and not self.gathering.exists():
            self.place.replace(self.gathering)  # somebody has cut it: what is left of it is not lost
        self._pieces = self._read_journal()

    def reread(self) -> None:
        """Somebody else has put it here."""
        self._pieces = self._read_journal()

    @property
    def pieces(self) -> range:
        """Their numbers; an empty file has one that is empty."""
        return range(max(-(-self.file.size // self.piece_bytes), 1))

    @property
    def is_whole(self) -> bool:
        """Whether it is in its place with all its bytes: it comes there only after its hash was right."""
        try:
            return self.place.stat().st_size == self.file.size
        except OSError:
            return False

    @property
    def path(self) -> Path:
        """Where its bytes are at this moment."""
        return self.place if self.is_whole else self.gathering

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and time of change, by which a file that somebody has written to is known."""
        try:
            known = self.path.stat()
        except OSError:
            return (0, 0)
        return (known.st_size, known.st_mtime_ns)

    def span(self, piece: int) -> tuple[int, int]:
        """Its first byte, and the one after its last."""
        begin = piece * self.piece_bytes
        return begin, min(begin + self.piece_bytes, self.file.size)

    def size_of(self, piece: int) -> int:
        begin, end = self.span(piece)
        return end - begin

    def here(self, piece: int) -> int:
        """Bytes of it that are here."""
        return self.size_of(piece) if self.is_whole else self._pieces[piece].size

    def has(self, piece: int) -> bool:
        return bool(self._pieces[piece].digest) or self.is_whole

    @property
    def is_complete(self) -> bool:
        return self.is_whole or all(self.has(piece) for piece in self.pieces)

    def covering(self, begin: int, end: int) -> range:
        """The pieces that the bytes from `begin` to before `end` are in."""
        return range(begin // self.piece_bytes, -(-min(end, self.file.size) // self.piece_bytes))

    def append(self, piece: int, data: bytes) -> None:
        """Once this returns, killing the process loses none of `data`; raises OSError, on a full disk too."""
        require_room(self.gathering.parent, len(data))
        at = self.span(piece)[0] + self.here(piece)
        with _opened(self.gathering) as handle:
            _write(handle, data, at)
        self._note(piece, Piece(self.here(piece) + len(data)))

    def finish(self, piece: int, expected: str = "") -> bool:
        """Call it whole; with `expected`, its SHA-256 in hex, only if it is that, else begin anew."""
        digest = self._computed(piece)
        right = not expected or digest.hex() == expected
        self._note(piece, Piece(self.size_of(piece), digest) if right else Piece())
        return right

    def drop(self, piece: int) -> None:
        """Begin it anew."""
        self._note(piece, Piece())

    def read(self, piece: int) -> Iterator[bytes]:
        begin, end = self.span(piece)
        with self.path.open("rb", buffering=0) as opened:
            opened.seek(begin)
            while begin < end and (data := opened.read(min(_READ_BYTES, end - begin))):
                begin += len(data)
                yield data

    def digest(self, piece: int) -> str:
        """Its SHA-256 in hex, as it came."""
        return self._pieces[piece].digest.hex()

    def check(self) -> list[int]:
        """Compare every piece with what came, forget those that differ, and return them."""
        everything = list(self.pieces)
        if self.is_whole and not all(piece.digest for piece in self._pieces):
            damaged = [] if self._is_right() else everything
        else:
            damaged = [
                piece
                for piece in everything
                if (known := self._pieces[piece].digest) and self._computed(piece) != known
            ]
        if damaged and self.is_whole:
            self.place.replace(self.gathering)
        for piece in damaged:
            self.drop(piece)
        return damaged

    def settle(self) -> bool:
        """Put the file, all pieces of which are here, into its place; False, and begin anew, if its hash is wrong."""
        if self.is_whole:
            return True
        with _opened(self.gathering) as handle:
            os.ftruncate(handle, self.file.size)
            if not self._is_right():
                for piece in self.pieces:
                    self.drop(piece)
                return False
            os.fsync(handle)
        self.gathering.replace(self.place)
        return True

    def extend(self) -> None:
        """Give a file that is not to become whole its full length: what is not here are holes, which cost nothing."""
        if not self.is_whole:
            with _opened(self.gathering) as handle:
                os.ftruncate(handle, self.file.size)

    def _is_right(self) -> bool:
        expected = self.file.sha256 or self.file.blob
        if not expected:
            return True
        digest: Digest = hashlib.sha256() if self.file.sha256 else _git_sha1(self.file.size)
        for piece in self.pieces:
            for data in self.read(piece):
                digest.update(data)
        return digest.hexdigest() == expected

    def _computed(self, piece: int) -> bytes:
        digest = hashlib.sha256()
        for data in self.read(piece):
            digest.update(data)
        return digest.digest()

    def _note(self, piece: int, known: Piece) -> None:
        self._pieces[piece] = known
        with _opened(self.journal) as handle:
            _write(handle, _RECORD.pack(known.size, known.digest), piece * _RECORD.size)

    def _read_journal(self) -> list[Piece]:
        """What an earlier process has left; what its file is too short for is not there."""
        raw = self.journal.read_bytes() if self.journal.exists() else b""
        raw += bytes(len(self.pieces) * _RECORD.size - len(raw))
        there = self.stamp[0]
        pieces: list[Piece] = []
        for number in self.pieces:
            size, digest = _RECORD.unpack_from(raw, number * _RECORD.size)
            begin, end = self.span(number)
            if not 0 < size <= min(end, there) - begin:
                pieces.append(Piece())
            else:
                pieces.append(Piece(size, digest if size == end - begin and any(digest) else b""))
        return pieces


class _opened:  # noqa: N801 - reads like `open`
    """A file to write into at any place; made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        return self._handle

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _write(handle: int, data: bytes, at: int) -> None:
    """All of it: a write that is cut short by a full disk says so at the next try."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(handle, rest, at)
        rest, at = rest[written:], at + written


def _git_sha1(size: int) -> Digest:
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
