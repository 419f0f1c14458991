"""Chunks that were sent and did not come are read again from the stream `troupe_out`, as long as it keeps them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
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
        self._ended: list[tuple[InFlight, int]] = []
        """Attempts of which no more will come."""

    def ask(self, ended: Iterable[InFlight] = ()) -> None:
        """Something is missing, or may be; of those that have `ended` it is all that there will be."""
        self._ended += ((request, request.attempt) for request in ended)
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled; what is still missing afterwards is lost for good."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            missing = [request for request in self._own.values() if request.gap]
            ended, self._ended = self._ended, []
            frames = await self._read()
            log.info("chunks.recalled", frames=frames, requests=len(missing) + len(ended))
            for request in missing:
                if request.gap and not request.over:
                    self._on_lost(request, request.gap)
            for request, attempt in ended:
                if request.attempt == attempt and not request.over:
                    self._on_lost(request, "its end was lost on the bus")

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
