"""Requests of which nothing is heard: their runners are asked whether they still work on them.

A way between two servers of the bus may be cut and mended while both ends keep their own connections: what was sent meanwhile is
lost, perhaps the end of an answer, and nobody is told.
"""

import asyncio
from asyncio import TaskGroup
from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from api.requests.request import InFlight
from bus.bus import Bus
from bus.errors import BusError
from schemas.ids import InstanceId, RequestId
from schemas.task import TasksFound


class Unheard:
    """`on_ended` is told of which requests no more will come; whoever is silent is asked every `unheard_s` seconds."""

    def __init__(
        self,
        bus: Bus,
        own: Mapping[RequestId, InFlight],
        unheard_s: float,
        on_ended: Callable[[list[InFlight]], None],
    ) -> None:
        self._bus = bus
        self._own = own
        self._unheard_s = unheard_s
        self._on_ended = on_ended

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._unheard_s)
            async with TaskGroup() as questions:
                for instance, requests in self._silent().items():
                    questions.create_task(self._ask(instance, requests))

    def _silent(self) -> Mapping[InstanceId, list[InFlight]]:
        since = asyncio.get_running_loop().time() - self._unheard_s
        silent: defaultdict[InstanceId, list[InFlight]] = defaultdict(list)
        for request in self._own.values():
            attempt = request.current
            if attempt.placement is not None and not request.over and attempt.heard_at <= since:
                silent[attempt.placement.instance].append(request)
        return silent

    async def _ask(self, instance: InstanceId, requests: list[InFlight]) -> None:
        attempts = [(request.id, request.attempt) for request in requests]
        try:
            answer = await self._bus.find_tasks(instance, attempts)
        except (BusError, msgspec.MsgspecError):
            return  # the way there is cut, or its runner is lost, which the state will say
        if not isinstance(answer, TasksFound):
            return  # a runner of an older version
        there = set(answer.attempts)
        ended = [
            request
            for request, asked in zip(requests, attempts, strict=True)
            if asked not in there and request.attempt == asked[1] and not request.over
        ]
        if ended:
            self._on_ended(ended)
