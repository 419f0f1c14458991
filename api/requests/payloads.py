"""Prompts too large for a message: on the bus from a request's first attempt until nobody waits for its answer."""

from asyncio import Queue

import structlog

from api.errors import ApiError
from api.requests.loss import LOADING_RETRY_S
from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusError, StreamFull

log = structlog.get_logger()

MAX_INLINE_BYTES = 512 * 1024
"""What is larger than this, with what was made so far, travels through the object store."""


class Payloads:
    """The owner keeps the prompt itself: the bus may lose its copy, or let it run out."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._unwanted: Queue[str] = Queue()

    async def lay_out(self, request: InFlight) -> None:
        """Before each attempt: the copy of the one before may be gone. Raises `ApiError` and `BusError`."""
        task = request.task
        assert task is not None, "a request is dispatched with its task"
        if not request.payload and len(task.prompt) + 4 * request.received <= MAX_INLINE_BYTES:
            return
        request.payload = f"prompt-{request.id}"
        try:
            await self._bus.payloads.put(request.payload, task.prompt)
        except StreamFull as full:
            why = f"The cluster has no room for a prompt of this size at this moment: {full}."
            raise ApiError(429, why, code="busy", retry_after_s=LOADING_RETRY_S) from full
        finally:
            if request.closed:
                self.discard(request)

    def discard(self, request: InFlight) -> None:
        """Never waits; `run` does it."""
        if request.payload:
            self._unwanted.put_nowait(request.payload)

    async def run(self) -> None:
        """Delete what nobody wants any more, until cancelled; what is left runs out by itself."""
        while True:
            name = await self._unwanted.get()
            try:
                await self._bus.payloads.delete(name)
            except BusError as failure:
                log.warning("payload.left", payload=name, reason=str(failure))
