"""News of several generations as one: their choices are numbered one after another."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from api.errors import ApiError
from api.generation import Pieces
from bus.errors import BusError

Source = AsyncGenerator[Pieces]


async def together(sources: Sequence[Source], choices: int) -> Source:
    """What each source has, as it comes; each has `choices` choices. Raises what the first one to fail raises."""
    news: asyncio.Queue[Pieces | ApiError | BusError] = asyncio.Queue(len(sources))
    readers = [
        asyncio.create_task(_read(source, number * choices, news)) for number, source in enumerate(sources)
    ]
    try:
        running = len(readers)
        while running:
            item = await news.get()
            if isinstance(item, Exception):
                raise item
            running -= item.last
            yield item._replace(last=not running)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


async def _read(source: Source, first: int, news: "asyncio.Queue[Pieces | ApiError | BusError]") -> None:
    try:
        async with aclosing(source):
            async for item in source:
                pieces = [piece._replace(choice=first + piece.choice) for piece in item.pieces]
                await news.put(item._replace(pieces=pieces))
    except (ApiError, BusError) as failure:
        await news.put(failure)
