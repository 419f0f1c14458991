"""Brings the pieces that a folder lacks, several at once: each from another node, or from outside where none has it."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from http.client import PARTIAL_CONTENT

import httpx2
import structlog
from huggingface_hub.utils import hf_raise_for_status

from actors.downloader.sources.all_or_none import all_or_none
from actors.downloader.sources.colleagues import Lack, Sought
from actors.downloader.sources.holding import Holding
from actors.downloader.sources.hub_errors import disk_errors, plain_errors
from actors.downloader.sources.outside import Outside
from actors.downloader.sources.piece_file import PieceFile
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable
from actors.threads import in_thread
from bus.claims import Claim
from schemas.ids import NodeId

log = structlog.get_logger()

PIECES_AT_ONCE = 8
OUTSIDE_AT_ONCE = 4
WRITE_BYTES = 1024 * 1024
WRITE_S = 0.25
"""Bytes go to the disk when there are so many of them, or when the first of them has waited this long."""
SKIP_BYTES = 64 * 1024 * 1024
"""A file of a place that knows no ranges is read from its beginning for each piece, up to this size."""


class Gathering:
    """One fill of one folder; raises Unavailable and Unobtainable, and keeps what has come so far."""

    def __init__(
        self, shelf: Shelf, outside: Outside, client: httpx2.AsyncClient, holding: Holding, progress: Progress
    ) -> None:
        self._shelf = shelf
        self._outside = outside
        self._client = client
        self._holding = holding
        self._progress = progress
        self._few = asyncio.Semaphore(OUTSIDE_AT_ONCE)
        self._mixed = {
            name for name, file in holding.files.items() if any(file.here(piece) for piece in file.pieces)
        }
        """Files of which not every byte has come from outside just now."""
        self._put_off: set[tuple[str, int]] = set()

    async def bring(self, wanted: Iterable[tuple[PieceFile, int]]) -> None:
        """Make all of `wanted` be here; files that are whole then come to their places."""
        pieces = list(wanted)
        lacking = [(file, piece) for file, piece in pieces if not file.has(piece)]
        total = sum(file.size_of(piece) for file, piece in pieces)
        missing = sum(file.size_of(piece) - file.here(piece) for file, piece in lacking)
        if lacking:
            self._progress.begin(total - missing, total)
        await self.make_room(lacking)
        turn = random.randrange(len(lacking)) if lacking else 0
        queue = deque([*lacking[turn:], *lacking[:turn]])  # so that nodes begin with different pieces
        await all_or_none(self._work(queue) for _ in range(min(PIECES_AT_ONCE, len(queue))))
        for file in dict.fromkeys(file for file, _ in pieces):
            if file.is_complete:
                await self._settle(file)

    async def make_room(self, pieces: Iterable[tuple[PieceFile, int]]) -> None:
        """Raises Unobtainable where they do not fit."""
        missing = sum(file.size_of(piece) - file.here(piece) for file, piece in pieces)
        await self._shelf.make_room(self._outside.source, self._holding.folder, missing)

    async def _work(self, queue: deque[tuple[PieceFile, int]]) -> None:
        while queue:
            file, piece = queue.popleft()
            with (
                disk_errors(self._outside.source, file.place, self._progress),
                self._holding.awaiting(file.file.name, piece),
            ):
                if not await self._bring(file, piece):
                    self._put_off.add((file.file.name, piece))
                    queue.append((file, piece))

    async def _bring(self, file: PieceFile, piece: int) -> bool:
        """False: not yet, as who has it is away; what others have is done first, for it may come back."""
        sought = self._sought(file, piece)
        others = self._shelf.colleagues
        known = others.who_has(sought.source) if self._shelf.offline else others.has_all(sought.source)
        if await self._from_any(known, file, piece):
            return True
        if self._shelf.offline:
            raise _offline(sought.source, known)
        over: Claim | None = None
        while (claim := await others.claim(sought, over)) is not None:
            over = None
            try:
                await self._from_node(claim.node, file, piece)
            except Lack as lack:
                if lack.why == "lacks":
                    over = claim
                elif lack.why == "away":
                    if (file.file.name, piece) not in self._put_off:
                        return False
                    over = claim if await others.is_gone(claim.node) else None
            else:
                return True
        await self._from_outside(file, piece)
        return True

    def _sought(self, file: PieceFile, piece: int) -> Sought:
        holding = self._holding
        return Sought(
            source=self._outside.source,
            folder=holding.folder.name,
            commit=holding.manifest.commit,
            file=file.file.name,
            piece=piece,
            size=file.size_of(piece),
        )

    async def _from_any(self, nodes: Sequence[NodeId], file: PieceFile, piece: int) -> bool:
        for node in nodes[:3]:
            try:
                await self._from_node(node, file, piece)
            except Lack:
                continue
            return True
        return False

    async def _from_node(self, node: NodeId, file: PieceFile, piece: int) -> None:
        async with self._shelf.colleagues.fetch(node, self._sought(file, piece)) as delivered:
            self._mixed.add(file.file.name)
            await self._drop(file, piece)
            came = await self._store(file, piece, delivered.data)
            self._progress.bytes_peers += came
            if file.here(piece) == file.size_of(piece):
                if await in_thread(file.finish, piece, delivered.digest):
                    return
                self._progress.add(-file.size_of(piece))
            log.warning("download.piece_differs", node=node, file=str(file.place), piece=piece)
            raise Lack("lacks")

    async def _from_outside(self, file: PieceFile, piece: int) -> None:
        async with self._few:
            if file.here(piece) < file.size_of(piece):
                await self._receive(file, piece)
            await in_thread(file.finish, piece)

    async def _receive(self, file: PieceFile, piece: int) -> None:
        url = await self._outside.address(self._holding.manifest, file.file)
        begin, end = file.span(piece)
        begin += file.here(piece)
        is_part = (begin, end) != (0, file.file.size)
        headers = {"Range": f"bytes={begin}-{end - 1}"} if is_part else {}
        if file.file.tag:
            headers["If-Match"] = file.file.tag
        shown = url.partition("?")[0]  # what a bucket's address is signed with is nobody's business
        with plain_errors(self._outside.source, shown):
            async with self._client.stream("GET", url, headers=headers) as response:
                if response.is_error:
                    await response.aread()
                hf_raise_for_status(response)
                data = response.aiter_bytes()
                if is_part and response.status_code != PARTIAL_CONTENT:
                    self._require_small(file, shown)
                    data = _cut(data, begin, end)
                await self._store(file, piece, self._counted(data))
        if file.here(piece) < file.size_of(piece):
            at = file.span(piece)[0] + file.here(piece)
            raise Unavailable(f"{shown} ended after {at:,} of {file.file.size:,} bytes")

    async def _counted(self, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for received in data:
            self._progress.bytes_outside += len(received)
            yield received
            await self._shelf.throttle.pass_on(len(received))

    def _require_small(self, file: PieceFile, url: str) -> None:
        if file.file.size > SKIP_BYTES:
            raise Unobtainable(
                f"{self._outside.source} cannot be fetched: {url} was asked for a part of {file.file.name}, and sent "
                "all of it; serve it with a server that knows ranges"
            )

    async def _store(self, file: PieceFile, piece: int, data: AsyncIterator[bytes]) -> int:
        """Write what comes, never more than the piece has; it is kept however this ends. Returns how much it was."""
        loop, held, due, stored = asyncio.get_running_loop(), bytearray(), 0.0, 0
        room = file.size_of(piece) - file.here(piece)

        async def write() -> int:
            part = bytes(held[: room - stored])
            held.clear()
            if part:
                await in_thread(file.append, piece, part)
                self._progress.add(len(part))
            return len(part)

        try:
            async for received in data:
                due = due if held else loop.time() + WRITE_S
                held += received
                if len(held) >= WRITE_BYTES or loop.time() >= due:
                    stored += await write()
                if stored >= room:
                    break
        finally:
            stored += await write()
        return stored

    async def _drop(self, file: PieceFile, piece: int) -> None:
        if not file.here(piece):
            return
        self._progress.add(-file.here(piece))
        await in_thread(file.drop, piece)

    async def _settle(self, file: PieceFile) -> None:
        with disk_errors(self._outside.source, file.place, self._progress):
            if await in_thread(file.settle):
                return
        self._progress.add(-file.file.size)
        name, source = file.file.name, self._outside.source
        if name in self._mixed:
            raise Unavailable(
                f"{name} of {source} was damaged on this disk, or on the way here: fetched afresh"
            )
        raise Unobtainable(
            f"{name} of {source} is not what its place has listed: its bytes have another hash"
        )


def _offline(source: str, known: Sequence[NodeId]) -> Unavailable | Unobtainable:
    if known:
        return Unavailable(f"{source} is not all here, nor with those who bring it, and this node is offline")
    return Unobtainable(
        f"{source} is not on this node, nor on another that is there, and `offline` forbids to fetch it"
    )


async def _cut(data: AsyncIterator[bytes], begin: int, end: int) -> AsyncIterator[bytes]:
    """The bytes from `begin` to before `end` of what begins at 0."""
    at = 0
    async for received in data:
        part = received[max(begin - at, 0) : max(end - at, 0)]
        at += len(received)
        if part:
            yield part
        if at >= end:
            return
