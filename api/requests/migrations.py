"""Requests that lose whoever works on them go on elsewhere: the same task again, with the tokens made so far.

The seed is the task's, and a draw depends on it and the position alone, so the continuation is what it would have
been. What ends a request instead: its own fault, a deadline, or too many attempts in a row without one token.
"""

import asyncio
from asyncio import Lock, Queue, TaskGroup
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from api.catalogue import Placement, lost
from api.errors import ApiError, from_exception
from api.requests.loss import Loss, poison
from api.requests.offers import Offers
from api.requests.payloads import Payloads
from api.requests.request import InFlight
from api.requests.versions import open_door, outdated
from bus.bus import Bus
from bus.errors import BusAway, BusError
from schemas.ids import InstanceId, ModelId, RequestId
from schemas.state import State

log = structlog.get_logger()

REMEMBERED = 64
"""Lives of runners whose end may still be news to somebody."""
FRUITLESS_S, LONGEST_PAUSE_S = 0.05, 2.0
"""After the second attempt in a row without a token, and doubled after each more, up to a bound: a runner that the bus
knows to be lost may take tasks for a moment yet."""
AGAIN_S = 0.5
"""Between two tries to find a place in a queue that is full; seconds."""


class Move(NamedTuple):
    """One change of a request from `was` to wherever it goes; void once it has to change again."""

    request: InFlight
    number: int
    was: InstanceId | None

    @property
    def stands(self) -> bool:
        request = self.request
        return request.moves == self.number and not request.over and not request.closed


class Migrations:
    """Ends attempts, and begins the next ones."""

    def __init__(
        self, bus: Bus, own: Mapping[RequestId, InFlight], offers: Offers, payloads: Payloads
    ) -> None:
        self._bus = bus
        self._own = own
        self._offers = offers
        self._payloads = payloads
        self._moving: Queue[Move] = Queue()
        self._barren: dict[Placement, int] = {}
        """How many requests without a token the last lives of runners ended with."""
        self._trials: defaultdict[ModelId, Lock] = defaultdict(Lock)

    def judge(self, before: State, state: State) -> None:
        """Move all requests whose runner is lost in `state`."""
        bereaved: defaultdict[Placement, list[InFlight]] = defaultdict(list)
        for request in self._own.values():
            if request.placement is not None and not request.over:
                bereaved[request.placement].append(request)
        for placement, requests in bereaved.items():
            known = placement.instance in before.instances
            if (loss := lost(state, placement, known=known)) is not None:
                self.bury(requests, loss)

    def judge_placed(self, request: InFlight) -> None:
        """Its runner may have been lost before it was known to have it."""
        if request.placement is not None and not request.over:
            loss = lost(self._bus.view.state, request.placement, known=False)
            if loss is not None:
                self.bury([each for each in self._own.values() if each.placement == request.placement], loss)

    def bury(self, requests: list[InFlight], loss: Loss) -> None:
        """All that a runner carried when it was lost."""
        barren = [request for request in requests if not request.current.progressed]
        self._note_death(barren, loss)
        for request in requests:
            self.lose(request, loss)

    def _note_death(self, barren: list[InFlight], loss: Loss) -> None:
        """Some hear of it late: whoever shared it before shares it with them."""
        if not barren:
            return
        of = barren[0].placement
        among = len(barren) + (self._barren.get(of, 0) if of else 0)
        for request in barren:
            request.suspicion.note_death(loss.fate, among)
        if of is not None:
            self._barren[of] = among
            if len(self._barren) > REMEMBERED:
                del self._barren[next(iter(self._barren))]

    def lose(self, request: InFlight, loss: Loss) -> None:
        """Its attempt is over: the next one goes on from there, if there is to be one."""
        if request.over:
            return
        self._offers.withdraw(request)
        if request.task is not None and request.complete:
            request.finish()
            return
        if not request.current.progressed:
            request.fruitless += 1
        if request.suspicion.guilty:
            log.error("request.poison", request=request.id, model=request.model, reason=loss.error.message)
            request.fail(poison(request.model, request.id))
        elif loss.final or request.fruitless >= loss.tries:
            request.fail(loss.error)
        else:
            self._move(request, loss)

    def _move(self, request: InFlight, loss: Loss) -> None:
        was = request.placement
        log.info("request.moves", request=request.id, attempt=request.attempt, reason=loss.error.message)
        request.trouble = loss.error
        request.moves += 1
        request.begin_attempt()
        if request.received:  # before the first byte an error can still be a plain answer
            request.remark("moving")
        self._moving.put_nowait(Move(request, request.moves, None if was is None else was.instance))

    async def run(self) -> None:
        """Each move is a task of its own: none waits for another."""
        async with TaskGroup() as moves:
            while True:
                moves.create_task(self._again(await self._moving.get()))

    async def _again(self, move: Move) -> None:
        if (doublings := move.request.fruitless - 2) >= 0:
            await asyncio.sleep(min(LONGEST_PAUSE_S, FRUITLESS_S * 2**doublings))
        if not move.request.suspicion.suspect:
            await self._send(move)
            return
        async with self._trials[move.request.model]:
            await self._send(move)
            if move.stands:
                await move.request.current.settled.wait()

    async def _send(self, move: Move) -> None:
        """Until it has found a place; its deadlines are the sweep's."""
        request = move.request
        while move.stands:
            if outdated(request, open_door(self._bus.view.state, request.model)):
                request.wake()  # whoever made its prompt makes it anew
                return
            try:
                await self._payloads.lay_out(request)
                await self._offers.dispatch(request, but=move.was)
                self.judge_placed(request)
                return
            except BusAway:  # an offer may have been taken: whoever has it works on an attempt that is over
                self._offers.withdraw(request)
                request.begin_attempt()
                await self._bus.until_connected()
            except BusError as failure:
                request.fail(from_exception(failure))
            except ApiError as refusal:
                if refusal.code != "busy":
                    request.fail(refusal)
                    return
                await asyncio.sleep(AGAIN_S)
