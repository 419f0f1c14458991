"""What a hub answers when it is asked for the contents of a repository."""

from msgspec import Struct

from actors.downloader.sources.wanted_files import WANTED
from schemas.manifest import ListedFile, Manifest


class LargeFile(Struct, frozen=True):
    """A file that git itself does not hold."""

    sha256: str
    size: int


class Sibling(Struct, frozen=True, rename="camel"):
    """One file of a repository."""

    rfilename: str
    size: int | None = None
    blob_id: str = ""
    lfs: LargeFile | None = None

    def file(self) -> ListedFile:
        if self.lfs is not None:
            return ListedFile(self.rfilename, self.lfs.size, sha256=self.lfs.sha256)
        return ListedFile(self.rfilename, self.size or 0, blob=self.blob_id)


class Listing(Struct, frozen=True):
    """`/api/models/{repository}/revision/{revision}?blobs=true`."""

    sha: str
    siblings: tuple[Sibling, ...]

    def manifest(self) -> Manifest:
        """What of it is wanted."""
        wanted = (one for one in self.siblings if WANTED.fullmatch(one.rfilename))
        return Manifest(self.sha, tuple(one.file() for one in wanted))
