"""Server-sent events, and answers that end with their client's connection."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing, suppress
from typing import Any

from litestar.types import HTTPResponseBodyEvent, Receive, Scope, Send

from api.errors import ApiError, from_exception
from bus.errors import BusError

Headers = list[tuple[bytes, bytes]]

DONE = b"data: [DONE]\n\n"
_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_JSON: Headers = [(b"content-type", b"application/json")]


def comment(text: str) -> bytes:
    """A line that clients skip; it keeps the connection alive. No empty line behind it: after an event with an `id`,
    OpenAI's SDK takes one for the end of another event, and fails on its empty data."""
    return f": {text}\n".encode()


def event(data: bytes, *, name: str = "", event_id: str = "") -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    head += f"event: {name}\n" if name else ""
    return b"%sdata: %s\n\n" % (head.encode(), data)


class EventStream:
    """An ASGI answer of events; an error before the first one is a plain answer, later it is an event."""

    def __init__(self, events: AsyncGenerator[bytes], headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._events = events
        self._headers: Headers = list(headers)
        self._started = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._write(send))

    async def _write(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            try:
                async for data in events:
                    if not self._started:
                        await self._begin(send)
                    await send(_part(data))
            except Exception as failure:  # noqa: BLE001  # a cut line would tell the client nothing; it is logged
                await self._fail(send, from_exception(failure))
                return
        if not self._started:
            await self._begin(send)
        await send(_part(b"", last=True))

    async def _begin(self, send: Send) -> None:
        self._started = True
        await _start(send, 200, _STREAM + self._headers)

    async def _fail(self, send: Send, error: ApiError) -> None:
        if self._started:
            await send(_part(event(error.body) + DONE, last=True))
        else:
            await send_error(send, error, self._headers)


class Whole:
    """An ASGI answer that is made while the client waits, and given up when it leaves."""

    def __init__(self, body: Coroutine[Any, Any, bytes], headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._body = body
        self._headers: Headers = list(headers)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._write(send))

    async def _write(self, send: Send) -> None:
        try:
            body = await self._body
        except (ApiError, BusError) as failure:
            await send_error(send, from_exception(failure), self._headers)
            return
        await _respond(send, 200, body, _JSON + self._headers)


async def send_error(send: Send, error: ApiError, headers: Headers) -> None:
    named = [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await _respond(send, error.status, error.body, _JSON + named + headers)


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await _start(send, status, [*headers, (b"content-length", str(len(body)).encode())])
    await send(_part(body, last=True))


def _part(body: bytes, *, last: bool = False) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": body, "more_body": not last}


async def _start(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or cancel it as soon as the client has gone."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
    if not working.cancelled():
        working.result()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
