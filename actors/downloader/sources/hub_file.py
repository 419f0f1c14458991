"""One file from a hub: asked for from where it broke off, written as it comes, checked, put into its place."""

import asyncio
from http.client import PARTIAL_CONTENT
from pathlib import Path

import httpx2
from huggingface_hub.utils import hf_raise_for_status
from msgspec import Struct

from actors.downloader.sources.hub_errors import disk_errors, plain_errors
from actors.downloader.sources.partial import Partial
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable
from actors.threads import in_thread

PIECE_BYTES = 1024 * 1024
PIECE_S = 0.25
"""Bytes go to the disk when there are so many of them, or when the first of them has waited this long."""


class Transfer(Struct, frozen=True):
    """What is fetched from where, in words and in numbers."""

    client: httpx2.AsyncClient
    source: str
    url: str
    progress: Progress


async def fetch_file(transfer: Transfer, partial: Partial, target: Path) -> None:
    """Bring one file to `target`; raises Unavailable and Unobtainable, and keeps what has come so far."""
    with disk_errors(transfer.source, target, transfer.progress):
        await in_thread(partial.open)
        resumed_at = partial.size
        if partial.size < partial.file.size:
            with plain_errors(transfer.source, transfer.url):
                await _receive(transfer, partial)
        if not partial.is_right:
            transfer.progress.add(-partial.size)
            await in_thread(partial.clear)
            raise _wrong(transfer, partial, resumed_at)
        await in_thread(partial.move_to, target)


def _wrong(transfer: Transfer, partial: Partial, resumed_at: int) -> Unavailable | Unobtainable:
    if resumed_at:
        return Unavailable(
            f"{partial.file.name} of {transfer.source} was damaged on this disk: fetched afresh"
        )
    return Unobtainable(
        f"{partial.file.name} of {transfer.source} is not what the hub has listed: the bytes of {transfer.url} "
        "have another hash"
    )


async def _receive(transfer: Transfer, partial: Partial) -> None:
    headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
    async with transfer.client.stream("GET", transfer.url, headers=headers) as response:
        if response.is_error:
            await response.aread()
        hf_raise_for_status(response)
        if partial.size and response.status_code != PARTIAL_CONTENT:
            transfer.progress.add(-partial.size)
            await in_thread(partial.clear)
        await _store(transfer, partial, response)
    if partial.size < partial.file.size:
        raise Unavailable(f"{transfer.url} ended after {partial.size:,} of {partial.file.size:,} bytes")


async def _store(transfer: Transfer, partial: Partial, response: httpx2.Response) -> None:
    """Write the answer in pieces; what has come is kept however it ends."""
    loop, held, due = asyncio.get_running_loop(), bytearray(), 0.0
    try:
        async for received in response.aiter_bytes():
            due = due if held else loop.time() + PIECE_S
            held += received
            if len(held) >= PIECE_BYTES or loop.time() >= due:
                await _append(transfer, partial, held)
            if partial.size > partial.file.size:
                return
    finally:
        await _append(transfer, partial, held)


async def _append(transfer: Transfer, partial: Partial, held: bytearray) -> None:
    piece = bytes(held)
    held.clear()
    await in_thread(partial.append, piece)
    transfer.progress.add(len(piece))
