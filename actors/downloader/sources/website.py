"""Models in a folder of a web server: `https://host/models/llama`, with a `SHA256SUMS` beside the files."""

import asyncio
import hashlib
from urllib.parse import quote, urlsplit

import httpx2
from huggingface_hub.utils import hf_raise_for_status

from actors.downloader.sources.checksums import NAME, parse_sums
from actors.downloader.sources.hub_errors import plain_errors
from actors.downloader.sources.outside import TIMEOUT
from actors.downloader.sources.source import Unobtainable, Vanished
from actors.downloader.sources.wanted_files import WANTED
from schemas.manifest import ListedFile, Manifest

PREFIXES = ("https://", "http://")


class Website:
    """One folder that anybody may read; it is pinned to the sums that it had at first."""

    def __init__(self, source: str) -> None:
        """The folder at the address `source`; raises Unobtainable."""
        address = urlsplit(source)
        if not address.hostname or address.query or address.fragment or address.username or address.password:
            raise Unobtainable(f"{source} is no folder of a web server: write https://HOST/FOLDER")
        self.source = source.rstrip("/")
        name = address.path.rstrip("/").rpartition("/")[2] or address.hostname
        self.folder_name = f"{name}@{hashlib.sha256(self.source.encode()).hexdigest()[:12]}"

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}
        )

    async def address(self, manifest: Manifest, file: ListedFile) -> str:  # noqa: ARG002 - it has no commits
        return f"{self.source}/{quote(file.name)}"

    async def listing(self, client: httpx2.AsyncClient) -> Manifest:
        url = f"{self.source}/{NAME}"
        try:
            sums = await self._asked(client, "GET", url)
        except Vanished as error:
            raise Unobtainable(
                f"{self.source} has no {NAME}, which says what the model consists of: run `sha256sum * > {NAME}` there"
            ) from error
        wanted = {name: sha for name, sha in parse_sums(sums.text).items() if WANTED.fullmatch(name)}
        files = await asyncio.gather(*(self._file(client, name, sha) for name, sha in wanted.items()))
        return Manifest(hashlib.sha256(sums.content).hexdigest(), tuple(files))

    async def _file(self, client: httpx2.AsyncClient, name: str, sha256: str) -> ListedFile:
        url = f"{self.source}/{quote(name)}"
        size = (await self._asked(client, "HEAD", url)).headers.get("Content-Length", "")
        if not size.isdecimal():
            raise Unobtainable(f"{self.source} cannot be fetched: {url} does not say how long it is")
        return ListedFile(name, int(size), sha256=sha256)

    async def _asked(self, client: httpx2.AsyncClient, method: str, url: str) -> httpx2.Response:
        with plain_errors(self.source, url):
            response = await client.request(method, url)
            hf_raise_for_status(response)
        return response
