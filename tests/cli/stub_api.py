"""A tiny HTTP server in the shape of the API: says what a test wants, and notes what it is asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

HEAD = "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
Line = dict[str, Any] | str


def piece(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


class StubApi:
    """Answers each chat with the next of `answers`: lines of SSE; `stay` keeps the stream open after them."""

    def __init__(self) -> None:
        self.url = ""
        self.models: list[str] = ["guide"]
        self.answers: list[Sequence[Line]] = []
        self.stay = False
        self.status = "200 OK"
        self.asked: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        """Set when a client has closed a stream that stays open."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get /v1/models"):
            body = {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
            writer.write(
                HEAD.format(status="200 OK", kind="application/json").encode() + msgspec.json.encode(body)
            )
        else:
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            self.asked.append(msgspec.json.decode(await reader.readexactly(length)))
            await self._answer(reader, writer)
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "text/event-stream" if self.status.startswith("200") else "application/json"
        writer.write(HEAD.format(status=self.status, kind=kind).encode())
        for line in self.answers.pop(0):
            if kind == "application/json":
                writer.write(msgspec.json.encode(line))
            else:
                data = line if isinstance(line, str) else "data: " + msgspec.json.encode(line).decode()
                writer.write(data.encode() + b"\n\n")
        await writer.drain()
        if self.stay:
            self.stay = False
            assert await reader.read() == b""
            self.left.set()


@asynccontextmanager
async def stub_api() -> AsyncIterator[StubApi]:
    api = StubApi()
    async with await asyncio.start_server(api.serve, "127.0.0.1", 0) as server:
        api.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield api
