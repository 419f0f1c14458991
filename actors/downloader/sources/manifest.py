"""What a model from a hub consists of, as the hub listed it once: kept beside the files."""

from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.unreadable import UNREADABLE

FOLDER = ".troupe"
"""Inside a model's folder: the manifest, the lock, and the files that are not whole yet."""
NAME = "manifest.json"


class HubFile(Struct, frozen=True):
    """One file of a model; `sha256` when it is a large file, else `blob`: git's SHA-1 of it."""

    name: str
    size: int
    sha256: str = ""
    blob: str = ""

    def is_whole(self, folder: Path) -> bool:
        """Whether it is there with all its bytes: a file comes to its place only after its hash was right."""
        try:
            return (folder / self.name).stat().st_size == self.size
        except OSError:
            return False

    @property
    def partial_name(self) -> str:
        """Where its bytes gather: another content gathers elsewhere."""
        return f"{self.name}-{(self.sha256 or self.blob)[:16]}.partial"


class Manifest(Struct, frozen=True):
    """The files of a model at one commit, so that a download which takes days is still of one piece."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def missing(self, folder: Path) -> list[HubFile]:
        return [file for file in self.files if not file.is_whole(folder)]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an earlier download into `folder`; None when there was none, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / FOLDER / NAME).read_bytes(), type=Manifest)
    except (OSError, *UNREADABLE):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step, and drop what an earlier one brought and this one has no use for."""
    earlier = read_manifest(folder)
    for file in earlier.files if earlier is not None else ():
        if file not in manifest.files:
            (folder / file.name).unlink(missing_ok=True)
    gathering = {file.partial_name for file in manifest.files}
    for partial in (folder / FOLDER).glob("*.partial"):
        if partial.name not in gathering:
            partial.unlink()
    draft = folder / FOLDER / f"{NAME}.new"
    draft.write_bytes(msgspec.json.encode(manifest))
    draft.replace(folder / FOLDER / NAME)
