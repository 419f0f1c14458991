"""Chunks that were sent and did not come are read again from the stream `troupe_out`, as long as it keeps them."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing

import structlog

from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusError
from bus.reader import Reader, Stored
from bus.streams import Streams
from schemas.ids import ApiId, RequestId

log = structlog.get_logger()

DEADLINE_S = 5.0
"""Reading all that is kept for one API takes less, or it is given up; seconds."""


class Recall:
    """Reads everything once more: what is known already changes nothing."""

    def __init__(
        self,
        bus: Bus,
        api: ApiId,
        own: Mapping[RequestId, InFlight],
        take: Callable[[bytes, str], None],
        on_lost: Callable[[InFlight, str], None],
    ) -> None:
        self._bus = bus
        self._own = own
        self._take = take
        self._on_lost = on_lost
        self._stream = Streams(bus.cluster).out
        self._subject = bus.subjects.out_of(api)
        self._wanted = asyncio.Event()

    def ask(self) -> None:
        """Something is missing, or may be."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled; what is still missing afterwards is lost for good."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            missing = [request for request in self._own.values() if request.gap]
            frames = await self._read()
            log.info("chunks.recalled", frames=frames, requests=len(missing))
            for request in missing:
                if request.gap and not request.over:
                    self._on_lost(request, request.gap)

    async def _read(self) -> int:
        """How many frames were there."""
        frames = 0
        reader = Reader(self._bus.connection, self._stream, self._subject, after=0)
        try:
            async with asyncio.timeout(DEADLINE_S), aclosing(reader.items()) as items:
                await self._bus.mend_streams()  # it is in memory, and the server may be a new one
                async for item in items:
                    if item == "caught_up":
                        break
                    if isinstance(item, Stored):
                        frames += 1
                        self._take(item.payload, item.subject)
        except (TimeoutError, BusError):
            log.warning("chunks.gone", frames=frames)
        return frames
