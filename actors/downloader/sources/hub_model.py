"""Models on a hub: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`."""

import re
from urllib.parse import quote

import httpx2
import msgspec
from huggingface_hub.utils import hf_raise_for_status

from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.hub_errors import plain_errors
from actors.downloader.sources.hub_listing import Listing
from actors.downloader.sources.source import Unobtainable
from bus.subjects import token
from schemas.manifest import ListedFile, Manifest
from schemas.unreadable import UNREADABLE

PREFIX = "hf:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")


class HubModel:
    """One revision of a repository; it is asked for once, then pinned to the commit that it was at that time."""

    def __init__(self, access: HubAccess, source: str) -> None:
        """The model that `source` names; raises Unobtainable."""
        name, _, revision = source.removeprefix(PREFIX).partition("@")
        if not _NAME.fullmatch(name) or "--" in name or ".." in name:
            raise Unobtainable(f"{source} names no model on a hub: write {PREFIX}OWNER/NAME[@REVISION]")
        self.access = access
        self.name = name
        self.revision = revision or "main"
        self.source = f"{PREFIX}{name}" + ("" if self.revision == "main" else f"@{revision}")
        self.folder_name = f"{name.replace('/', '--')}@{token(self.revision)}"

    def client(self) -> httpx2.AsyncClient:
        return self.access.client()

    async def address(self, manifest: Manifest, file: ListedFile) -> str:
        return f"{self.access.endpoint}/{self.name}/resolve/{manifest.commit}/{quote(file.name)}"

    async def listing(self, client: httpx2.AsyncClient) -> Manifest:
        endpoint = self.access.endpoint
        url = f"{endpoint}/api/models/{self.name}/revision/{quote(self.revision, safe='')}"
        with plain_errors(self.source, url):
            response = await client.get(url, params={"blobs": "true"})
            hf_raise_for_status(response)
        try:
            listing = msgspec.json.decode(response.content, type=Listing)
        except UNREADABLE as error:
            raise Unobtainable(f"{endpoint} does not answer like a hub: {url}: {error}") from error
        return listing.manifest()
