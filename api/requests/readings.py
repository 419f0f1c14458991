"""What is kept for an API actor is read once for all who ask while another reading goes on: when a node dies, the
clients of all its streams come at once."""

import asyncio
from asyncio import Lock
from asyncio import Task as AioTask
from collections import defaultdict
from collections.abc import Callable
from contextlib import aclosing

import structlog

from api.requests.inbox import readable
from api.requests.kept import DEADLINE_S, kept
from bus.bus import Bus
from bus.errors import BusError
from schemas.chunks import Chunk
from schemas.ids import ApiId, RequestId

log = structlog.get_logger()

Take = Callable[[Chunk], None]
AT_ONCE = 64
"""Frames that are read before others have their turn: about a millisecond."""


class Readings:
    """One at a time: several would share the connection, and none might be done in time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._turn = Lock()
        self._next: dict[ApiId, _Reading] = {}

    async def tell(self, api: ApiId, request: RequestId, take: Take) -> None:
        """All chunks of the request that are kept now, in order. Never raises; what cannot be read is not told."""
        reading = self._next.get(api)
        if reading is None:
            reading = self._next[api] = _Reading()
            reading.task = asyncio.create_task(self._read(api, reading), name="requests.reading")
        reading.takes[request].append(take)
        assert reading.task is not None, "it was begun with its task"
        await asyncio.shield(reading.task)  # others wait for it too

    async def _read(self, api: ApiId, reading: "_Reading") -> None:
        async with self._turn:
            del self._next[api]
            taken = 0
            try:
                async with asyncio.timeout(DEADLINE_S), aclosing(kept(self._bus, api)) as frames:
                    async for frame in frames:
                        reading.take(frame.payload)
                        taken += 1
                        if taken % AT_ONCE == 0:  # what has come already is handed out without a pause
                            await asyncio.sleep(0)
            except (TimeoutError, BusError):
                log.warning("heritage.gone", of=api, requests=len(reading.takes))


class _Reading:
    """Whoever asks before it begins hears of its chunks."""

    def __init__(self) -> None:
        self.task: AioTask[None] | None = None
        self.takes: defaultdict[RequestId, list[Take]] = defaultdict(list)

    def take(self, payload: bytes) -> None:
        for chunk in readable(payload):
            for take in self.takes.get(chunk.request, ()):
                take(chunk)
