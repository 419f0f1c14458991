"""What is said over a link that is measured: a secret, some echoes, then as much as goes through.

The side that waits counts what arrives and says so when it has seen enough, so that a slow link is loaded for a moment and
not for as long as a fixed number of bytes would take.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import TypeVar, cast

import msgspec
from msgspec import Struct

ECHOES = 16
"""Of which the first says that both sides wait for the others."""
BYTE = b"."
CHUNK = bytes(64 * 1024)
MOST_BYTES = 16 * 1024**2
LEAST_S, MOST_S, ROUND_TRIPS = 0.2, 1.0, 12
"""A transfer lasts so many round trips within these bounds: TCP has to come to its speed."""
DEADLINE_S = 10.0

_R = TypeVar("_R")


class Verdict(Struct, frozen=True):
    """What arrived after the transfer's first quarter, and in what time (seconds)."""

    bytes_seen: int
    seconds: float


class Measured(Struct, frozen=True):
    """A link, as a program meets it."""

    latency_s: float
    bandwidth_bytes_s: float


async def measure(address: str, port: int, secret: str) -> Measured:
    """Go there and measure; raises OSError or TimeoutError where that cannot be done."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            _at_once(writer)
            writer.write(secret.encode() + BYTE)
            await reader.readexactly(1)
            latency_s = await _waiting(writer, _echoed_s)
            writer.write(msgspec.json.encode(min(max(ROUND_TRIPS * 2 * latency_s, LEAST_S), MOST_S)) + b"\n")
            verdict = await _pour(reader, writer)
        except asyncio.IncompleteReadError as failure:
            raise ConnectionResetError("the other side left while the link was measured") from failure
        finally:
            writer.transport.abort()  # what has not gone out is no longer of interest
    return Measured(latency_s, verdict.bytes_seen / verdict.seconds if verdict.seconds else 0.0)


async def be_measured(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: str) -> None:
    """The other side of `measure`; who does not know the secret is left without a word."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            _at_once(writer)
            if await reader.readexactly(len(secret)) != secret.encode():
                return
            first = await reader.readexactly(1)
            await _waiting(writer, _echo, first)
            lasts_s = min(float(await reader.readline()), MOST_S)
            writer.write(msgspec.json.encode(await _count(reader, lasts_s)) + b"\n")
            await reader.read()  # the other side has heard it
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def _waiting(
    writer: asyncio.StreamWriter, talk: Callable[[socket.socket], _R], said: bytes = b""
) -> _R:
    """Let a thread `talk` that waits for the socket itself, as the ranks of a group do: an event loop wakes later than a way
    within a rack takes. `said` is written once nothing that comes goes to the loop."""
    transport = cast("asyncio.Transport", writer.transport)
    transport.pause_reading()
    writer.write(said)
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as link:
        link.settimeout(DEADLINE_S)
        try:
            return await asyncio.to_thread(talk, link)
        except asyncio.CancelledError:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)  # the thread need not wait any longer
            raise
        finally:
            transport.resume_reading()


def _echoed_s(link: socket.socket) -> float:
    """Half of the quickest round trip: what other programs add to the rest is not the link's."""
    took: list[float] = []
    for _ in range(1, ECHOES):
        began = perf_counter()
        link.send(BYTE)
        _one(link)
        took.append(perf_counter() - began)
    return min(took) / 2


def _echo(link: socket.socket) -> None:
    for _ in range(1, ECHOES):
        link.send(_one(link))


def _one(link: socket.socket) -> bytes:
    if byte := link.recv(1):
        return byte
    raise ConnectionResetError("the other side left while the link was measured")


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Verdict:
    """Send until the other side has seen enough."""
    said = asyncio.ensure_future(reader.readline())
    try:
        while not said.done():
            writer.write(CHUNK)
            sent = asyncio.ensure_future(writer.drain())
            await asyncio.wait((said, sent), return_when=asyncio.FIRST_COMPLETED)
            sent.cancel()
            await asyncio.sleep(0)
        return msgspec.json.decode(said.result(), type=Verdict)
    except msgspec.MsgspecError as failure:
        raise ConnectionResetError("the other side left while the link was measured") from failure
    finally:
        said.cancel()


async def _count(reader: asyncio.StreamReader, lasts_s: float) -> Verdict:
    seen, began, counted_from, before = 0, perf_counter(), 0.0, 0
    now = began
    while now - began < lasts_s and seen < MOST_BYTES:
        try:
            async with asyncio.timeout(began + lasts_s - now):
                arrived = len(await reader.read(len(CHUNK)))
        except TimeoutError:
            break
        if not arrived:
            break
        seen, now = seen + arrived, perf_counter()
        if not counted_from and (now - began > lasts_s / 4 or seen > MOST_BYTES / 4):
            counted_from, before = now, seen
    if not counted_from or now <= counted_from:
        return Verdict(seen, now - began)
    return Verdict(seen - before, now - counted_from)


def _at_once(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
