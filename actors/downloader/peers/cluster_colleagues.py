"""The other nodes of the cluster, as the bus knows them: the state says who has what, the bucket who brings what."""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http.client import NOT_FOUND, OK, SERVICE_UNAVAILABLE
from urllib.parse import quote

import httpx2
import structlog

from actors.downloader.peers.piece_server import COMING_S, DIGEST
from actors.downloader.sources.colleagues import Delivered, Lack, Sought, Why
from bus.bus import Bus
from bus.claims import Claim
from bus.errors import NoAnswer, NobodyThere
from schemas.commands import FilesAnswer, FilesFound, FindFiles
from schemas.ids import NodeId
from schemas.manifest import Manifest
from schemas.presence import is_alive
from schemas.state import Download

log = structlog.get_logger()

TIMEOUT = httpx2.Timeout(2.0, read=COMING_S + 10, pool=None)
GONE_S = 1.0
"""How long a node that does not answer is waited for before it is asked again; seconds."""
LACKS: Mapping[int, Why] = {NOT_FOUND: "lacks", SERVICE_UNAVAILABLE: "coming"}


class ClusterColleagues:
    """The colleagues of the node whose bus this is; close it when it is not needed any more."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._client = httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False)
        self._found: dict[NodeId, FilesFound] = {}
        self._reached: dict[NodeId, str] = {}
        """The address under which a node has answered last."""

    async def close(self) -> None:
        await self._client.aclose()

    async def manifest(self, source: str) -> Manifest | None:
        for node in self.who_has(source):
            found = await self._find(node, source)
            if found is not None and found.manifest is not None:
                return found.manifest
        return None

    async def agree(self, source: str, manifest: Manifest) -> Manifest:
        return await self._bus.claims.agree(_key("listing", source), manifest)

    async def claim(self, sought: Sought, over: Claim | None = None) -> Claim | None:
        key = _key("piece", sought.source, sought.commit, sought.file, str(sought.piece))
        claim = await self._bus.claims.take(key, self._bus.node, over)
        return None if claim.node == self._bus.node else claim

    def who_has(self, source: str) -> Sequence[NodeId]:
        return self._those([*self._downloads(source)])

    def has_all(self, source: str) -> Sequence[NodeId]:
        return self._those([each for each in self._downloads(source) if _is_all(each)])

    async def is_gone(self, node: NodeId) -> bool:
        self._found.pop(node, None)
        self._reached.pop(node, None)
        try:
            await self._bus.view.until(lambda _: not self._lives(node), timeout_s=GONE_S)
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def fetch(self, node: NodeId, sought: Sought) -> AsyncGenerator[Delivered]:
        found = self._found.get(node) or await self._find(node, sought.source)
        if found is None:
            raise Lack("away")
        async with self._while_there(node):
            response = await self._ask(node, found, sought)
            try:
                yield Delivered(response.headers.get(DIGEST, ""), response.aiter_bytes())
            except httpx2.HTTPError as failure:
                raise Lack("away") from failure
            finally:
                await response.aclose()

    @asynccontextmanager
    async def _while_there(self, node: NodeId) -> AsyncGenerator[None]:
        """Ends the block with Lack once the cluster takes the node for lost: a frozen one keeps its connections."""
        lost = asyncio.create_task(
            self._bus.view.until(lambda _: not self._lives(node), timeout_s=None), name=f"loss of {node}"
        )
        try:
            async with asyncio.timeout(None) as limit:

                def give_up(_: object) -> None:
                    with suppress(RuntimeError):  # the block has ended at this moment
                        limit.reschedule(0)  # long ago: now

                lost.add_done_callback(give_up)
                try:
                    yield
                finally:
                    lost.remove_done_callback(give_up)
        except TimeoutError as over:
            raise Lack("away") from over
        finally:
            lost.cancel()

    async def _ask(self, node: NodeId, found: FilesFound, sought: Sought) -> httpx2.Response:
        """An answer with the piece in it, from the first address where the node is found; raises Lack."""
        path = "/".join(quote(each, safe="") for each in (sought.folder, sought.commit, sought.file))
        reached = self._reached.get(node)
        for url in found.urls if reached is None else (reached,):
            request = self._client.build_request(
                "GET", f"{url}/{path}/{sought.piece}", headers={"Authorization": f"Bearer {found.token}"}
            )
            try:
                response = await self._client.send(request, stream=True)
            except httpx2.HTTPError as failure:
                log.debug("peer.silent", node=node, url=url, reason=str(failure) or type(failure).__name__)
                continue
            if response.status_code == OK:
                self._reached[node] = url
                return response
            await response.aclose()
            if response.status_code in LACKS:
                raise Lack(LACKS[response.status_code])
        self._found.pop(node, None)  # it may have been started again, with another token
        self._reached.pop(node, None)
        raise Lack("away")

    async def _find(self, node: NodeId, source: str) -> FilesFound | None:
        """Where `node` serves its files, and what it has of `source`."""
        try:
            answer = await self._bus.ask(
                self._bus.subjects.files(node), FindFiles(source=source), FilesAnswer
            )
        except (NobodyThere, NoAnswer):
            return None
        if not isinstance(answer, FilesFound):
            return None
        self._found[node] = answer
        return answer

    def _downloads(self, source: str) -> Iterator[Download]:
        """What the other nodes that are there have of `source`."""
        state = self._bus.view.state
        for each in state.downloads.values():
            if each.source == source and each.node != self._bus.node and self._lives(each.node):
                yield each

    def _those(self, downloads: list[Download]) -> Sequence[NodeId]:
        random.shuffle(downloads)
        return list(dict.fromkeys(each.node for each in sorted(downloads, key=_is_all, reverse=True)))

    def _lives(self, node: NodeId) -> bool:
        return is_alive(self._bus.view.state, node)


def _is_all(download: Download) -> bool:
    return download.status == "complete" and download.layers is None


def _key(kind: str, *names: str) -> str:
    return f"{kind}.{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:32]}"
