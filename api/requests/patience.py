"""One clock for the deadlines of all requests: what is late, silent or forgotten, and who is to be told that it is not."""

import asyncio
from collections.abc import Callable, Mapping

from api.catalogue import ready_instances
from api.requests.loss import Loss, silent, too_late, waited
from api.requests.request import InFlight
from api.settings import ApiSettings
from bus.bus import Bus
from schemas.ids import RequestId


class Patience:
    """Looks at each request every `sweep_s` seconds."""

    def __init__(
        self,
        bus: Bus,
        settings: ApiSettings,
        own: Mapping[RequestId, InFlight],
        *,
        on_lost: Callable[[InFlight, Loss], None],
        on_bus_back: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._own = own
        self._on_lost = on_lost
        self._on_bus_back = on_bus_back
        self._bus_back_at = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        loop, lives = asyncio.get_running_loop(), self._bus.connection.lives
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            now = loop.time()
            if lives != self._bus.connection.lives:
                lives, self._bus_back_at = self._bus.connection.lives, now
                self._on_bus_back()
            for request in list(self._own.values()):
                if not request.over:
                    self._check(request, now)

    def _check(self, request: InFlight, now: float) -> None:
        settings, attempt = self._settings, request.current
        stalled_s = now - request.stalled_at
        if request.deadline is not None and now > request.deadline:
            request.fail(too_late(request.deadline - request.opened_at))
        elif attempt.placement is None and stalled_s > settings.wait_deadline_s:
            request.fail(request.trouble or waited(request.model, settings.wait_deadline_s))
        elif attempt.placement is not None and now > self._patience_ends(request):
            self._give_up(request, silent(now - attempt.heard_at), stalled_s)
        elif now - request.spoken_at >= settings.keepalive_s:
            request.spoken_at = now
            request.remark(self._stage(request))

    def _give_up(self, request: InFlight, loss: Loss, stalled_s: float) -> None:
        """Somebody else may have more to say, while there is time."""
        if not request.current.progressed and stalled_s > self._settings.wait_deadline_s:
            request.fail(loss.error)
        else:
            self._on_lost(request, loss)

    def _patience_ends(self, request: InFlight) -> float:
        """Sooner for one that has not been heard since the bus came back."""
        heard_at = request.current.heard_at
        ends = heard_at + self._settings.silence_deadline_s
        if heard_at < self._bus_back_at:
            ends = min(ends, self._bus_back_at + self._settings.bus_silence_s)
        return ends

    def _stage(self, request: InFlight) -> str:
        if request.placement is not None:
            return "working"
        ready = ready_instances(self._bus.view.state, request.model)
        return "queued" if request.current.sent and ready else "loading"
