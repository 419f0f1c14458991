"""Frames of chunks that were sent to an API actor, out of the stream `troupe_out`, as long as it keeps them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from bus.bus import Bus
from bus.reader import Reader, Stored
from bus.streams import Streams
from schemas.ids import ApiId

DEADLINE_S = 5.0
"""Reading all that is kept for one API takes less, or whoever reads gives it up; seconds."""


async def kept(bus: Bus, api: ApiId) -> AsyncGenerator[Stored]:
    """All that there is now, in order; raises `BusError`."""
    reader = Reader(bus.connection, Streams(bus.cluster).out, bus.subjects.out_of(api), after=0)
    async with aclosing(reader.items()) as items:
        await bus.mend_streams()  # it is in memory, and the server may be a new one
        async for item in items:
            if item == "caught_up":
                return
            if isinstance(item, Stored):
                yield item
