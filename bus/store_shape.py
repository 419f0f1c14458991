"""What an embedded server's stored streams are of: a server alone, or one of several, which do not see each other's."""

import os
from pathlib import Path
from secrets import token_hex
from typing import Literal

Shape = Literal["alone", "carrying", "carried", "one of several"]
"""`carrying`: what a server alone had stored is on its way into a bus of several; `carried`: it is all there."""


class StoreShape:
    """The file `shape` in the server's folder, and the store that it is about.

    A store `alone` becomes one of several by `set_aside`: it is kept in `alone/`, to be carried over from there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "shape"
        self.aside = folder / "alone"
        """Folder of the server that was alone."""

    def read(self) -> Shape | None:
        """None where nothing is stored yet."""
        said = self._file.read_text().strip() if self._file.exists() else "alone"
        for shape in ("carrying", "carried"):
            if said == shape:
                return shape
        if not (self._folder / "store" / "jetstream").exists():
            return None
        return "one of several" if said == "one of several" else "alone"

    def write(self, shape: Shape) -> None:
        _write(self._file, shape)

    def carrier(self) -> str:
        """Names what is carried over from here, whoever is killed on the way."""
        file = self.aside / "carrier"
        if not file.exists():
            _write(file, token_hex(8))
        return file.read_text().strip()

    def set_aside(self) -> None:
        """Move the store of a server alone to where it is carried over from; may be said again after a crash.

        Its server must not run. Raises FileExistsError where an earlier one was left.
        """
        kept = self.aside / "store"
        if self.read() == "alone":
            if kept.exists():
                raise FileExistsError(kept)
            self.write("carrying")
        if not kept.exists():
            self.aside.mkdir(exist_ok=True)
            (self._folder / "store").rename(kept)


def _write(file: Path, line: str) -> None:
    """All of it or nothing, whenever the machine stops."""
    temporary = file.with_name(f"{file.name}.new")
    with temporary.open("w") as opened:
        opened.write(line + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(file)
