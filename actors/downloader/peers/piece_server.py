"""Serves the pieces that are on this node to the others: `GET /{folder}/{commit}/{file}/{piece}`."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import contextmanager
from http.client import NOT_FOUND, OK, SERVICE_UNAVAILABLE, UNAUTHORIZED
from pathlib import Path
from secrets import compare_digest, token_urlsafe
from typing import Any, cast

import uvicorn

from actors.downloader.sources.piece_file import PieceFile
from actors.downloader.sources.shelf import Shelf
from actors.machine.addresses import urls
from actors.threads import in_thread

DIGEST = "x-piece-sha256"
COMING_S = 20.0
"""Who asks for a piece that is on its way here waits for it this long, then asks again; seconds."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


OnDamage = Callable[[Path], None]


def _tell_nobody(_: Path) -> None:
    """A server without a downloader."""


class PieceServer:
    """Listens from the beginning, answers while `run` runs; `token` is another one in each life."""

    def __init__(self, shelf: Shelf, host: str, port: int = 0) -> None:
        self.token = token_urlsafe(24)
        self.on_damage: OnDamage = _tell_nobody
        """Is told of the folder in which a piece is not what it was."""
        self._shelf = shelf
        self._socket = socket.create_server((host, port))
        self.urls = urls(host, self._socket.getsockname()[1])

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    async def run(self) -> None:
        """Answer until cancelled; what is on its way then is cut, and asked for again elsewhere."""
        configuration = uvicorn.Config(
            cast("Any", self._answer),
            loop="none",
            interface="asgi3",
            http="httptools",
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = _Server(configuration)
        serving = asyncio.create_task(server.serve(sockets=[self._socket]), name="pieces.http")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = server.force_exit = True
            await serving
            raise

    async def _answer(self, scope: Scope, _: Receive, send: Send) -> None:
        if not self._knows_token(scope):
            return await _refuse(send, UNAUTHORIZED)
        found = self._find(scope["path"])
        if found is None:
            return await _refuse(send, NOT_FOUND)
        file, piece, coming = found
        if not file.has(piece):
            if coming is None:
                return await _refuse(send, NOT_FOUND)
            try:
                await asyncio.wait_for(coming.wait(), COMING_S)
            except TimeoutError:
                return await _refuse(send, SERVICE_UNAVAILABLE)
        if not file.has(piece):
            return await _refuse(send, NOT_FOUND)
        return await self._send(file, piece, send)

    def _knows_token(self, scope: Scope) -> bool:
        said = dict(scope["headers"]).get(b"authorization", b"")
        return scope["method"] == "GET" and compare_digest(said, f"Bearer {self.token}".encode())

    def _find(self, path: str) -> tuple[PieceFile, int, asyncio.Event | None] | None:
        """The piece that is asked for, if its model is here; and when it comes."""
        match path.split("/")[1:]:
            case [folder, commit, name, number] if number.isdecimal():
                holding = self._shelf.holding(folder)
                if holding is None or holding.manifest.commit != commit:
                    return None
                file = holding.files.get(name)
                if file is None or int(number) not in file.pieces:
                    return None
                return file, int(number), holding.coming(file.file.name, int(number))
            case _:
                return None

    async def _send(self, file: PieceFile, piece: int, send: Send) -> None:
        digest = await in_thread(file.digest, piece)
        headers = [
            (b"content-length", str(file.size_of(piece)).encode()),
            (DIGEST.encode(), digest.encode()),
        ]
        await send({"type": "http.response.start", "status": int(OK), "headers": headers})
        parts, read = file.read(piece), hashlib.sha256()
        while part := await in_thread(next, parts, b""):
            await in_thread(read.update, part)
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if digest and read.hexdigest() != digest:  # who has asked for it sees that too
            self.on_damage(file.place.parent)


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": int(status), "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class _Server(uvicorn.Server):
    """Leaves signals to the node."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
