"""Tasks that a runner took out of the queue, and did not live to say so: they are looked for when one is lost.

What it said may be lost as well, where a way between two servers of the bus is cut: then the one that has waited longest tells of it.
"""

import asyncio
from asyncio import Queue, TaskGroup
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from api.requests.loss import Loss, runner_lost
from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusAway
from schemas.ids import ModelId, RequestId
from schemas.instance import Instance
from schemas.state import State

GRACE_S = 2.0
"""How long after it took a task a runner that lives may take to say so; seconds."""


class Missing:
    """`on_lost` is told which requests have nobody, and wait no longer; every `look_s` seconds one of each model is looked for."""

    def __init__(
        self,
        bus: Bus,
        own: Mapping[RequestId, InFlight],
        look_s: float,
        on_lost: Callable[[list[InFlight], Loss], None],
    ) -> None:
        self._bus = bus
        self._own = own
        self._look_s = look_s
        self._on_lost = on_lost
        self._deaths: Queue[ModelId] = Queue()

    def note(self, before: State, state: State) -> None:
        """Some runners may have been lost."""
        for model in {each.spec.id for each in _lost(before, state)}:
            if any(self._waiting(model)):
                self._deaths.put_nowait(model)

    async def run(self) -> None:
        """Until cancelled."""
        async with TaskGroup() as searches:
            searches.create_task(self._look())
            while True:
                searches.create_task(self._search(await self._deaths.get()))

    async def _look(self) -> None:
        """Twice: whoever took it a moment ago is about to say so."""
        gone: set[tuple[RequestId, int]] = set()
        while True:
            await asyncio.sleep(self._look_s)
            before, gone = gone, set[tuple[RequestId, int]]()
            with suppress(BusAway):
                for request in self._longest().values():
                    ticket, this = request.current.ticket, (request.id, request.attempt)
                    if ticket is not None and not await self._bus.queue.holds(ticket):
                        gone.add(this)
                        if this in before:
                            self._deaths.put_nowait(request.model)

    def _longest(self) -> Mapping[ModelId, InFlight]:
        """Who has waited longest for each model."""
        longest: dict[ModelId, InFlight] = {}
        for request in self._own.values():
            if request.current.ticket is not None:
                longest.setdefault(request.model, request)
        return longest

    def _waiting(self, model: ModelId) -> Iterator[InFlight]:
        for request in self._own.values():
            if request.model == model and request.current.ticket is not None:
                yield request

    async def _search(self, model: ModelId) -> None:
        """None is blamed: who took a task and said nothing need not be the runner that was lost."""
        gone: list[tuple[InFlight, int]] = []
        try:
            for request in list(self._waiting(model)):
                ticket, attempt = request.current.ticket, request.attempt
                if ticket is not None and not await self._bus.queue.holds(ticket):
                    gone.append((request, attempt))
        except BusAway:
            return  # what is silent after its return is noticed by the sweep
        if gone:
            await asyncio.sleep(GRACE_S)
        lost = [each for each, attempt in gone if each.placement is None and each.attempt == attempt]
        self._on_lost(lost, runner_lost("who took it out of the queue did not begin"))


def _lost(before: State, state: State) -> Iterator[Instance]:
    """Instances that have lost a life."""
    for instance in before.instances.values():
        after = state.instances.get(instance.id)
        if after is None or after.attempt > instance.attempt or after.status == "failed" != instance.status:
            yield instance
