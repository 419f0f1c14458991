"""Finds somebody for a request: an instance that takes its task at once, else the queue."""

from asyncio import get_running_loop

import msgspec
import structlog

from api.catalogue import Placement, hopeless
from api.errors import refused
from api.requests.demand import Demand
from api.requests.drain import Drain
from api.requests.request import InFlight
from api.requests.versions import open_door, orphaned, outdated, queues
from api.requests.waiting import Waiting
from api.requests.withdrawals import Withdrawals
from api.routing.router import Router
from api.settings import ApiSettings
from bus.bus import Bus
from bus.errors import NoAnswer, NobodyThere
from schemas.chunks import Started
from schemas.ids import InstanceId
from schemas.refused import Refused
from schemas.task import LANES, Accepted

log = structlog.get_logger()


class Offers:
    """Asks one instance after the other, the cheapest first."""

    def __init__(
        self, bus: Bus, settings: ApiSettings, drain: Drain, withdrawals: Withdrawals, demand: Demand
    ) -> None:
        self.waiting = Waiting(bus, drain, withdrawals)
        self.router = Router(bus)
        self._withdrawals = withdrawals
        self._demand = demand
        self._bus = bus
        self._settings = settings

    async def dispatch(self, request: InFlight, *, but: InstanceId | None = None) -> None:
        """Until somebody has the task, or it is in the queue; the instance `but` is asked last.

        Raises `ApiError` when it is no use, or the queue is full, and `BusError`.
        """
        if request.received or not self._others_wait(request):
            for instance in self.router.candidates(request, but):
                if await self._offer(request, instance):
                    return
        if request.closed:
            return
        state = self._bus.view.state
        door = open_door(state, request.model)
        trouble = hopeless(state, request.model) or orphaned(state, request, door)
        if trouble is not None:
            raise trouble
        if outdated(request, door):
            request.wake()  # whoever made its prompt makes it anew
            return
        if not queues(request, door):
            raise self.waiting.busy(request.model, "What can go on with the answer is busy.")
        self._demand.note(request.model)
        await self.waiting.put(request, self._patience_s(request))

    def _others_wait(self, request: InFlight) -> bool:
        """In the queue, in its lane or a higher one: nobody jumps it, but who was served already."""
        assert request.task is not None, "a request is dispatched with its task"
        lanes = LANES[: LANES.index(request.task.lane) + 1]
        return any(self.waiting.count(request.model, lane) for lane in lanes)

    def _patience_s(self, request: InFlight) -> float:
        ends = request.stalled_at + self._settings.wait_deadline_s
        return min(ends, request.deadline or ends) - get_running_loop().time()

    async def _offer(self, request: InFlight, instance: InstanceId) -> bool:
        """Whether the search is over: it was taken, or somebody has moved the request on meanwhile."""
        attempt = request.current
        attempt.sent = True
        self.router.send(request, instance)
        answer = await self._answer(request, instance)
        if request.closed:  # its client has left meanwhile: who took it must hear that after the offer
            self.withdraw(request)
            return True
        if attempt.placement is not None or request.current is not attempt or request.over:
            return True  # its first chunk was faster than its answer, say
        if isinstance(answer, Accepted):
            self.place(request, Placement(answer.instance, answer.attempt))
            return True
        self.router.refuse(attempt)
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
        self.router.send(request, placement.instance)
        self.waiting.leave(request, attempt)
        attempt.placement, attempt.ticket = placement, None
        attempt.heard_at = get_running_loop().time()
        request.account.placed(placement.instance, attempt.number)

    def withdraw(self, request: InFlight) -> None:
        """Its present attempt is not wanted any more: the queue, or whoever has it, is told. Never waits."""
        attempt = request.current
        self.router.remove(attempt)
        if attempt.sent and request.ended is None:
            self._withdrawals.send(request.id, 0 if request.closed else attempt.number)
        self.waiting.take_back(request, attempt)
