"""What a model that is fetched consists of, as its place listed it once, and the pieces in which it travels."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.revision import revision_name

MIB = 1024 * 1024
SMALLEST_PIECE, LARGEST_PIECE = MIB, 16 * MIB
PIECES = 256
"""How many pieces a model is cut into, as long as that makes neither too small ones nor too large ones."""

Hex = Annotated[str, Meta(pattern="^[0-9a-fA-F]*$")]
"""Stands in names of files, and manifests come over the bus: nothing that leads elsewhere may be in it."""


class ListedFile(Struct, frozen=True):
    """One file of a model.

    `sha256` where the place says it, else `blob`, git's SHA-1 of the file, else neither: then only what has come can
    be told from what came later.
    """

    name: Annotated[str, Meta(pattern=r"^[^./\\][^/\\]*$", max_length=255)]
    size: Annotated[int, Meta(ge=0, le=1 << 44)]
    sha256: Hex = ""
    blob: Hex = ""
    tag: str = ""
    """The ETag of the content, for places that have no hash: other bytes have another one."""

    @property
    def partial_name(self) -> str:
        """Where its bytes gather: another content gathers elsewhere."""
        known = self.sha256 or self.blob or "".join(filter(str.isalnum, self.tag))
        return f"{self.name}-{known[:16]}.partial"


class Manifest(Struct, frozen=True):
    """The files of a model at one commit, so that a download which takes days is still of one piece."""

    commit: str
    files: tuple[ListedFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def revision(self) -> str:
        """Another one where any file differs; a commit that changed none of them is the same."""
        lines = (f"{file.name} {file.size} {file.sha256 or file.blob or file.tag}" for file in self.files)
        return revision_name("\n".join(sorted(lines)))

    @property
    def piece_bytes(self) -> int:
        """A power of two, the same on every node."""
        wished = max(self.size // PIECES, 1)
        return min(max(1 << (wished - 1).bit_length(), SMALLEST_PIECE), LARGEST_PIECE)

    def named(self, name: str) -> ListedFile | None:
        return next((file for file in self.files if file.name == name), None)
