"""Waits for the stream that keeps chunks: the bus has a frame before its stream does."""

import asyncio
from contextlib import aclosing

from bus.bus import Bus
from bus.reader import Reader, Stored
from schemas.ids import ApiId


async def until_kept(bus: Bus, api: ApiId, frames: int) -> None:
    """So many frames for that API actor are in the stream."""
    reader, there = Reader(bus.connection, "troupe_out", bus.subjects.out_of(api), after=0), 0
    async with asyncio.timeout(20), aclosing(reader.items()) as items:
        while there < frames:
            there += isinstance(await anext(items), Stored)
