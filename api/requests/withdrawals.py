"""Telling runners that nobody wants the rest: of a request, of one attempt at it, or of one of its sequences."""

import msgspec
import structlog

from api.accounts.accounts import Accounts
from bus.bus import Bus
from bus.errors import BusAway
from schemas.ids import RequestId
from schemas.task import Cancel

log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class Withdrawals:
    """Cancels on their way to whoever works on the request."""

    def __init__(self, bus: Bus, accounts: Accounts) -> None:
        self._bus = bus
        self._accounts = accounts

    def send(self, request: RequestId, attempt: int = 0, index: int | None = None) -> None:
        """Never waits; when it is lost, what it was to end goes on to its own end."""
        self._accounts.cancels += 1
        cancel = Cancel(request=request, attempt=attempt, index=index)
        try:
            self._bus.post(self._bus.subjects.cancel(request), _encode(cancel))
        except BusAway as away:
            log.warning("cancel.lost", request=request, reason=str(away))
