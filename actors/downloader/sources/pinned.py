"""What a place held at one time: the same files for all who fetch it, or none."""

from contextlib import AbstractAsyncContextManager

import httpx2

from actors.downloader.sources.outside import Outside
from actors.downloader.sources.source import Vanished
from schemas.manifest import ListedFile, Manifest
from schemas.revision import marked


class Pinned:
    """A place at one revision, with a folder of its own; it is a place like the others."""

    def __init__(self, place: Outside, revision: str) -> None:
        self._place = place
        self._revision = revision
        self.source = marked(place.source, revision)
        self.folder_name = f"{place.folder_name}+{revision}"

    def client(self) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        return self._place.client()

    async def address(self, manifest: Manifest, file: ListedFile) -> str:
        return await self._place.address(manifest, file)

    async def listing(self, client: httpx2.AsyncClient) -> Manifest:
        manifest = await self._place.listing(client)
        if manifest.revision != self._revision:
            raise Vanished(
                f"{self.source} is no more: its place holds #{manifest.revision} by now; pull the model, then load it"
            )
        return manifest
