"""Models on a hub: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`."""

import re
from pathlib import Path
from urllib.parse import quote

import httpx2
import msgspec
from huggingface_hub.utils import hf_raise_for_status

from actors.downloader.sources.folder_lock import folder_lock
from actors.downloader.sources.hub import Hub
from actors.downloader.sources.hub_download import download
from actors.downloader.sources.hub_errors import disk_errors, plain_errors
from actors.downloader.sources.hub_listing import Listing
from actors.downloader.sources.manifest import FOLDER, Manifest, read_manifest, write_manifest
from actors.downloader.sources.source import Progress, Unobtainable, Vanished
from bus.subjects import token
from schemas.unreadable import UNREADABLE

PREFIX = "hf:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")


class HubModel:
    """One revision of a repository; it is asked for once, then pinned to the commit that it was at that time."""

    def __init__(self, hub: Hub, name: str, revision: str) -> None:
        self.hub = hub
        self.name = name
        self.revision = revision
        self.source = f"{PREFIX}{name}" + ("" if revision == "main" else f"@{revision}")
        self.folder = hub.models_dir / f"{name.replace('/', '--')}@{token(revision)}"

    @classmethod
    def named(cls, hub: Hub, source: str) -> "HubModel":
        """The model that `source` names; raises Unobtainable."""
        name, _, revision = source.removeprefix(PREFIX).partition("@")
        if not _NAME.fullmatch(name) or "--" in name or ".." in name:
            raise Unobtainable(f"{source} names no model on a hub: write {PREFIX}OWNER/NAME[@REVISION]")
        return cls(hub, name, revision or "main")

    async def fetch(self, progress: Progress) -> Path:
        with disk_errors(self.source, self.folder):
            (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        async with self.hub.filling[self.folder]:
            with folder_lock(self.folder / FOLDER / "lock"):
                await self._fill(progress)
        return self.folder

    async def _fill(self, progress: Progress) -> None:
        """Without a word to the hub when everything is here already."""
        known = read_manifest(self.folder)
        if known is not None and not known.missing(self.folder):
            return
        async with self.hub.access.client() as client:
            try:
                await self._bring(client, known or await self._ask(client), progress)
            except Vanished:
                if known is None:
                    raise
                # The commit that was begun is gone from the hub: take what there is now.
                await self._bring(client, await self._ask(client), progress)

    async def _bring(self, client: httpx2.AsyncClient, manifest: Manifest, progress: Progress) -> None:
        base = f"{self.hub.access.endpoint}/{self.name}/resolve/{manifest.commit}"
        await download(client, manifest, self.folder, source=self.source, base=base, progress=progress)

    async def _ask(self, client: httpx2.AsyncClient) -> Manifest:
        """What the hub says that the model consists of."""
        endpoint = self.hub.access.endpoint
        url = f"{endpoint}/api/models/{self.name}/revision/{quote(self.revision, safe='')}"
        with plain_errors(self.source, url):
            response = await client.get(url, params={"blobs": "true"})
            hf_raise_for_status(response)
        try:
            listing = msgspec.json.decode(response.content, type=Listing)
        except UNREADABLE as error:
            raise Unobtainable(f"{endpoint} does not answer like a hub: {url}: {error}") from error
        if lacks := listing.lacks():
            raise Unobtainable(f"{self.source} cannot be served: it has no {lacks}")
        manifest = listing.manifest()
        with disk_errors(self.source, self.folder):
            write_manifest(self.folder, manifest)
        return manifest
