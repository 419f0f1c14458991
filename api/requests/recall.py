"""Chunks that were sent and did not come are read again from the stream `troupe_out`, as long as it keeps them."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing

import structlog

from api.requests.kept import DEADLINE_S, kept
from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusError
from schemas.ids import ApiId, RequestId

log = structlog.get_logger()


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
        self._api = api
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
        try:
            async with asyncio.timeout(DEADLINE_S), aclosing(kept(self._bus, self._api)) as items:
                async for item in items:
                    frames += 1
                    self._take(item.payload, item.subject)
        except (TimeoutError, BusError):
            log.warning("chunks.gone", frames=frames)
        return frames
