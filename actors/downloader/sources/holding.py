"""What is on this disk of one model, piece by piece: read by who fetches and by who serves the others."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog

from actors.downloader.sources.manifest import FOLDER
from actors.downloader.sources.piece_file import PieceFile
from schemas.manifest import Manifest
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

CHECKED = "checked.json"


class Holding:
    """The files of one manifest in one folder."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.files = {file.name: PieceFile(file, manifest.piece_bytes, folder) for file in manifest.files}
        self._coming: dict[tuple[str, int], asyncio.Event] = {}

    @contextmanager
    def awaiting(self, name: str, piece: int) -> Generator[None]:
        """While the block runs the piece is on its way here: who asks for it is told when it ends."""
        over = self._coming.setdefault((name, piece), asyncio.Event())
        try:
            yield
        finally:
            self._coming.pop((name, piece), None)
            over.set()

    def coming(self, name: str, piece: int) -> asyncio.Event | None:
        """Set when the piece has come, or has not; None when it is not on its way."""
        return self._coming.get((name, piece))

    def check(self, *, everything: bool) -> None:
        """Compare what is here with what came, where a file was written to since the last look, or everywhere."""
        known = self._checked()
        for name, file in self.files.items():
            if (everything or known.get(name) != file.stamp) and (damaged := file.check()):
                log.warning("download.damaged", file=str(file.place), pieces=damaged)

    def note_checked(self) -> None:
        """What is here now is what came."""
        stamps = {name: file.stamp for name, file in self.files.items()}
        (self.folder / FOLDER / CHECKED).write_bytes(msgspec.json.encode(stamps))

    def _checked(self) -> dict[str, tuple[int, int]]:
        try:
            raw = (self.folder / FOLDER / CHECKED).read_bytes()
            return msgspec.json.decode(raw, type=dict[str, tuple[int, int]])
        except (OSError, *UNREADABLE):
            return {}

    @property
    def is_whole(self) -> bool:
        return all(file.is_whole for file in self.files.values())

    def view(self, name: str) -> Path:
        """A folder with every file of the model, holes and all, for who knows which parts it may read."""
        view = self.folder / FOLDER / name
        view.mkdir(exist_ok=True)
        for left in view.iterdir():
            left.unlink()
        for file in self.files.values():
            file.extend()
            (view / file.file.name).hardlink_to(file.path)
        return view

    def pieces(self) -> Iterator[tuple[PieceFile, int]]:
        for file in self.files.values():
            yield from ((file, piece) for piece in file.pieces)
