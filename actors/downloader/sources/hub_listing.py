"""What a hub answers when it is asked for the contents of a repository, and which of it a model needs."""

import re

from msgspec import Struct

from actors.downloader.sources.manifest import HubFile, Manifest

WANTED = re.compile(r"[^./][^/]*\.(json|jinja|model|txt|tiktoken)|model[^/]*\.safetensors")
"""Only at the top of a repository: no code, no other formats, no second copy of the weights in a folder."""
NEEDED = ("config.json", "tokenizer.json")


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

    def file(self) -> HubFile:
        if self.lfs is not None:
            return HubFile(self.rfilename, self.lfs.size, sha256=self.lfs.sha256)
        return HubFile(self.rfilename, self.size or 0, blob=self.blob_id)


class Listing(Struct, frozen=True):
    """`/api/models/{repository}/revision/{revision}?blobs=true`."""

    sha: str
    siblings: tuple[Sibling, ...]

    def manifest(self) -> Manifest:
        wanted = (one for one in self.siblings if WANTED.fullmatch(one.rfilename))
        return Manifest(self.sha, tuple(one.file() for one in wanted))

    def lacks(self) -> str:
        """What this repository would need to be servable; empty when it has it all: asked before the download."""
        names = {one.rfilename for one in self.siblings}
        for name in NEEDED:
            if name not in names:
                return name
        weights = any(WANTED.fullmatch(name) and name.endswith(".safetensors") for name in names)
        return "" if weights else "weights in safetensors files (model*.safetensors)"
