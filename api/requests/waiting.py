"""What waits for a worker in the queue: put there, counted by lane, and taken back when nobody wants it any more."""

import asyncio
from asyncio import Queue
from asyncio import Task as AioTask
from collections import Counter
from typing import NamedTuple

import structlog

from api.errors import ApiError
from api.requests.attempt import Attempt
from api.requests.drain import Drain
from api.requests.loss import LOADING_RETRY_S
from api.requests.request import InFlight
from api.requests.withdrawals import Withdrawals
from bus.bus import Bus
from bus.errors import BusError, QueueFull
from bus.queue import Ticket
from schemas.ids import ModelId
from schemas.task import LANES, Lane

log = structlog.get_logger()


class _Unwanted(NamedTuple):
    request: InFlight
    attempt: int
    ticket: Ticket


class Waiting:
    """The queue as far as this API's own requests are in it."""

    def __init__(self, bus: Bus, drain: Drain, withdrawals: Withdrawals) -> None:
        self._bus = bus
        self._withdrawals = withdrawals
        self._drain = drain
        self._counts: Counter[tuple[ModelId, Lane]] = Counter()
        self._puts: set[AioTask[Ticket]] = set()
        self._unwanted: Queue[_Unwanted] = Queue()

    def count(self, model: ModelId, lane: Lane) -> int:
        return self._counts[model, lane]

    async def put(self, request: InFlight, patience_s: float) -> None:
        """The put outlives its client's patience: only with its ticket can it be taken back."""
        attempt, task = request.current, request.message()
        put = asyncio.create_task(self._bus.queue.put(task, patience_s))
        self._puts.add(put)
        attempt.sent, attempt.queued = True, task.lane
        self._counts[request.model, task.lane] += 1
        put.add_done_callback(lambda done: self._done(request, attempt, done))
        try:
            await asyncio.shield(put)
        except QueueFull as full:
            raise self.busy(request.model, f"The cluster is busy: {full}.") from full

    def _done(self, request: InFlight, attempt: Attempt, put: AioTask[Ticket]) -> None:
        self._puts.discard(put)
        if put.cancelled() or put.exception() is not None:
            self.leave(request, attempt)
        elif request.closed or request.current is not attempt:
            self.leave(request, attempt)
            self._unwanted.put_nowait(_Unwanted(request, attempt.number, put.result()))
        elif attempt.placement is None:
            attempt.ticket = put.result()

    def leave(self, request: InFlight, attempt: Attempt) -> None:
        """It waits no longer: somebody has it, or nobody is to have it."""
        if attempt.queued is not None:
            lane, attempt.queued = attempt.queued, None
            self._counts[request.model, lane] -= 1
            if not self._counts[request.model, lane]:
                del self._counts[request.model, lane]

    def take_back(self, request: InFlight, attempt: Attempt) -> None:
        """Never waits; `run` does it."""
        self.leave(request, attempt)
        if attempt.ticket is not None:
            self._unwanted.put_nowait(_Unwanted(request, attempt.number, attempt.ticket))
            attempt.ticket = None

    def busy(self, model: ModelId, why: str) -> ApiError:
        """429, with the time that what waits here takes to be served."""
        ahead = 1 + sum(self._counts[model, lane] for lane in LANES)
        retry_after_s = self._drain.seconds_for(ahead, model, LOADING_RETRY_S)
        return ApiError(429, why, code="busy", retry_after_s=retry_after_s)

    async def run(self) -> None:
        """Take out of the queue what nobody wants any more, until cancelled."""
        while True:
            request, attempt, ticket = await self._unwanted.get()
            try:
                if not await self._bus.queue.remove(ticket):
                    self._withdrawals.send(request.id, 0 if request.closed else attempt)
            except BusError as failure:
                log.warning("ticket.left", request=request.id, reason=str(failure))
