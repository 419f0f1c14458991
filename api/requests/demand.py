"""Says to the leader which models somebody waits for that are loaded on demand; again while it is so."""

import asyncio
from asyncio import Queue, TaskGroup
from collections.abc import Iterator, Mapping

import structlog

from api.catalogue import no_place
from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusAway, NoAnswer, NobodyThere
from schemas.commands import Answer, DemandModel
from schemas.ids import ModelId, RequestId
from schemas.refused import Refused

log = structlog.get_logger()

AGAIN_S = 1.0
"""Between two demands for the same model: a new leader hears of it so late at most; seconds."""
ANSWER_S = 5.0


class Demand:
    """Nobody else remembers it: whoever holds the client repeats it until the request has found a place."""

    def __init__(self, bus: Bus, own: Mapping[RequestId, InFlight]) -> None:
        self._bus = bus
        self._own = own
        self._noted: Queue[ModelId] = Queue()
        self._pressed: set[ModelId] = set()

    def note(self, model: ModelId) -> None:
        """One of its requests has found nobody."""
        known = self._bus.view.state.models.get(model)
        if known is not None and known.spec.on_demand and model not in self._pressed:
            self._pressed.add(model)
            self._noted.put_nowait(model)

    async def run(self) -> None:
        """Until cancelled; one model never waits for another."""
        self._pressed.clear()
        async with TaskGroup() as group:
            while True:
                group.create_task(self._press(await self._noted.get()))

    async def _press(self, model: ModelId) -> None:
        while any(self._waiting(model)):
            await self._ask(model)
            await asyncio.sleep(AGAIN_S)
        self._pressed.discard(model)

    async def _ask(self, model: ModelId) -> None:
        try:
            answer = await self._bus.ask(self._bus.subjects.master, self._order(model), Answer, ANSWER_S)
        except (NobodyThere, NoAnswer, BusAway) as away:
            log.info("demand.unheard", model=model, reason=str(away))
            return
        if isinstance(answer, Refused) and answer.code == "no_place":
            for request in list(self._waiting(model)):
                if not request.begun:
                    request.fail(no_place(model, answer.reason))

    def _order(self, model: ModelId) -> DemandModel:
        now = asyncio.get_running_loop().time()
        waited_s = max((now - request.opened_at for request in self._waiting(model)), default=0.0)
        return DemandModel(model=model, waited_s=waited_s)

    def _waiting(self, model: ModelId) -> Iterator[InFlight]:
        for request in self._own.values():
            if request.model == model and request.placement is None and not request.over:
                yield request
