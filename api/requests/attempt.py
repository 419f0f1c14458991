"""One try at a request: which one it is, who works on it, and when it was heard of."""

from asyncio import Event

from api.catalogue import Placement
from bus.queue import Ticket
from schemas.ids import InstanceId
from schemas.task import Lane


class Attempt:
    """Begins when it is offered, or put into the queue; the next one knows nothing of it but its tokens."""

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.placement: Placement | None = None
        self.counted: InstanceId | None = None
        """Whose load it is part of."""
        self.ticket: Ticket | None = None
        self.queued: Lane | None = None
        """Where it waits for a worker."""
        self.sent = False
        """Somebody may be working on it, or may come to."""
        self.progressed = False
        """It has brought a token that no earlier attempt had."""
        self.heard_at = now
        self.settled = Event()
        """It has progressed, or is over: it is known not to have ended its runner at once."""
