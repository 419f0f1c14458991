"""The API actors whose requests a runner works on: when one is gone for good, nobody wants what it asked for."""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from actors.runner.open_tasks import OpenTask, OpenTasks
from bus.bus import Bus
from bus.errors import BusAway, BusError, NobodyThere
from schemas.ids import ApiId

log = structlog.get_logger()

ASK_S = 5.0
PATIENCE_S = 30.0
"""An API actor that has lost the bus may be back within this, and fetch what it missed; seconds."""
ANSWER_S = 0.5
"""The server says at once that nobody listens; an API actor that does keeps silent; seconds."""


class Owners:
    """`on_gone` is told each task whose owner has not listened for `patience_s` seconds."""

    def __init__(
        self,
        bus: Bus,
        tasks: OpenTasks,
        on_gone: Callable[[OpenTask], None],
        ask_s: float = ASK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._on_gone = on_gone
        self._ask_s = ask_s
        self._patience_s = patience_s
        self._away: dict[ApiId, float] = {}
        """Since when nobody is known to listen."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._ask_s)
            owners = {task.api for task in self._tasks.all()}
            self._away = {api: since for api, since in self._away.items() if api in owners}
            for api in owners:
                await self._look(api)

    async def _look(self, api: ApiId) -> None:
        if await self._listens(api):
            self._away.pop(api, None)
        elif monotonic() - self._away.setdefault(api, monotonic()) >= self._patience_s:
            gone = self._tasks.owned_by(api)
            log.warning("owner.gone", api=api, requests=len(gone))
            for each in gone:
                self._on_gone(each)

    async def _listens(self, api: ApiId) -> bool:
        """True also when nothing can be known now: the bus may have lost everybody."""
        try:
            await self._bus.connection.request(self._bus.subjects.owner(api), b"", ANSWER_S)
        except NobodyThere:
            return False
        except BusAway:
            self._away.clear()
        except BusError:
            pass  # silence is the answer
        return True
