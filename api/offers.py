"""Finds somebody for a request: an instance that takes its task at once, else the queue."""

import random
from asyncio import get_running_loop
from collections import Counter

import msgspec
import structlog

from api.attempt import Attempt
from api.catalogue import Placement, hopeless, ready_instances
from api.drain import Drain
from api.errors import refused
from api.request import InFlight
from api.settings import ApiSettings
from api.waiting import Waiting
from api.withdrawals import Withdrawals
from bus.bus import Bus
from bus.errors import NoAnswer, NobodyThere
from schemas.chunks import Started
from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance
from schemas.refused import Refused
from schemas.task import LANES, Accepted

log = structlog.get_logger()


class Offers:
    """Knows how much of this API's work each instance has."""

    def __init__(self, bus: Bus, settings: ApiSettings, drain: Drain, withdrawals: Withdrawals) -> None:
        self.waiting = Waiting(bus, drain, withdrawals)
        self._withdrawals = withdrawals
        self._bus = bus
        self._settings = settings
        self._running: Counter[InstanceId] = Counter()

    async def dispatch(self, request: InFlight, *, but: InstanceId | None = None) -> None:
        """Until somebody has the task, or it is in the queue; the instance `but` is asked last.

        Raises `ApiError` when it is no use, or the queue is full, and `BusError`.
        """
        if request.received or not self._others_wait(request):
            for instance in self._candidates(request.model, but):
                if await self._offer(request, instance.id):
                    return
        trouble = hopeless(self._bus.view.state, request.model)
        if trouble is not None:
            raise trouble
        await self.waiting.put(request, self._patience_s(request))

    def _others_wait(self, request: InFlight) -> bool:
        """In the queue, in its lane or a higher one: nobody jumps it, but who was served already."""
        assert request.task is not None, "a request is dispatched with its task"
        lanes = LANES[: LANES.index(request.task.lane) + 1]
        return any(self.waiting.count(request.model, lane) for lane in lanes)

    def _candidates(self, model: ModelId, but: InstanceId | None) -> list[Instance]:
        """Ready instances, the least busy first, as far as it is known here; equals in random order."""
        ready = ready_instances(self._bus.view.state, model)
        random.shuffle(ready)
        return sorted(ready, key=lambda instance: (instance.id == but, self._running[instance.id]))

    def _patience_s(self, request: InFlight) -> float:
        ends = request.stalled_at + self._settings.wait_deadline_s
        return min(ends, request.deadline or ends) - get_running_loop().time()

    async def _offer(self, request: InFlight, instance: InstanceId) -> bool:
        """Whether the search is over: it was taken, or somebody has moved the request on meanwhile."""
        attempt = request.current
        attempt.sent = True
        self._count(attempt, instance)
        answer = await self._answer(request, instance)
        if attempt.placement is not None or request.current is not attempt or request.over:
            return True  # its first chunk was faster than its answer, say
        if isinstance(answer, Accepted):
            self.place(request, Placement(answer.instance, answer.attempt))
            return True
        self._count(attempt, None)
        if answer is None:
            self._give_up(request, instance)
        elif answer.code in ("bad_request", "too_large"):
            raise refused(answer)
        return False

    async def _answer(self, request: InFlight, instance: InstanceId) -> Accepted | Refused | None:
        """None when there is none, or none that can be read: it may have been taken."""
        try:
            return await self._bus.offer(instance, request.message(), self._settings.offer_timeout_s)
        except NobodyThere as nobody:
            return Refused("unavailable", str(nobody))
        except (NoAnswer, msgspec.MsgspecError):
            return None

    def _give_up(self, request: InFlight, instance: InstanceId) -> None:
        """What comes of it no longer counts, and it is told so."""
        log.warning("offer.unanswered", request=request.id, instance=instance)
        self._withdrawals.send(request.id, request.attempt)
        request.begin_attempt()

    def started(self, request: InFlight, chunk: Started) -> None:
        """Somebody took the task out of the queue, or says so before its answer to the offer is here."""
        if request.placement is None:
            instance = self._bus.view.state.instances.get(chunk.instance)
            attempt = chunk.instance_attempt or (instance.attempt if instance else 0)
            self.place(request, Placement(chunk.instance, attempt))

    def place(self, request: InFlight, placement: Placement) -> None:
        """From here on somebody works on it."""
        attempt = request.current
        self._count(attempt, placement.instance)
        self.waiting.leave(request, attempt)
        attempt.placement, attempt.ticket = placement, None
        attempt.heard_at = get_running_loop().time()
        request.account.placed(placement.instance, attempt.number)

    def withdraw(self, request: InFlight) -> None:
        """Its present attempt is not wanted any more: the queue, or whoever has it, is told. Never waits."""
        attempt = request.current
        self._count(attempt, None)
        if attempt.sent and request.ended is None:
            self._withdrawals.send(request.id, 0 if request.closed else attempt.number)
        self.waiting.take_back(request, attempt)

    def _count(self, attempt: Attempt, instance: InstanceId | None) -> None:
        """An offer counts from when it is made, so that a burst of requests spreads."""
        if attempt.counted is not None:
            self._running[attempt.counted] -= 1
            if self._running[attempt.counted] <= 0:
                del self._running[attempt.counted]
        if instance is not None:
            self._running[instance] += 1
        attempt.counted = instance
