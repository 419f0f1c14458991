"""News of several generations as one: their choices are numbered one after another."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from api.generation import Pieces

Source = AsyncGenerator[Pieces]


async def together(sources: Sequence[Source], choices: int) -> Source:
    """What each source has, as it comes; each has `choices` choices. Raises what the first one to fail raises."""
    news: asyncio.Queue[Pieces | BaseException] = asyncio.Queue(len(sources))
    readers = [
        asyncio.create_task(_read(source, number * choices, news)) for number, source in enumerate(sources)
    ]
    for reader in readers:
        reader.add_done_callback(lambda done: _tell_failure(done, news))
    try:
        running = len(readers)
        while running:
            item = await news.get()
            if isinstance(item, BaseException):
                raise item
            running -= item.last
            yield replace(item, last=not running)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


async def _read(source: Source, first: int, news: "asyncio.Queue[Pieces | BaseException]") -> None:
    async with aclosing(source):
        async for item in source:
            pieces = [replace(piece, choice=first + piece.choice) for piece in item.pieces]
            await news.put(replace(item, pieces=pieces))


def _tell_failure(reader: asyncio.Task[None], news: "asyncio.Queue[Pieces | BaseException]") -> None:
    """Whatever it is: nobody may wait for a source that has ended. What it takes the place of would not be sent."""
    if reader.cancelled() or (failure := reader.exception()) is None:
        return
    if news.full():
        news.get_nowait()
    news.put_nowait(failure)
