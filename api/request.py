"""One request that a client waits for: what has come of it, checked, and who works on it."""

from asyncio import Future, get_running_loop
from typing import NamedTuple

import structlog

from api.account import Account
from api.catalogue import LOST_RETRY_S, Placement
from api.errors import ApiError, unavailable
from api.sequence import Fresh, Sequence
from bus.queue import Ticket
from schemas.chunks import Chunk, Ended, Failed, FailureCode, Prefilled, SequenceEnded, Started, Tokens
from schemas.ids import InstanceId, ModelId, RequestId

log = structlog.get_logger()

STATUS: dict[FailureCode, int] = {
    "bad_request": 400,
    "engine_failed": 500,
    "runner_lost": 503,
    "out_of_memory": 503,
    "cancelled": 503,
    "deadline": 504,
    "unavailable": 503,
}


class News(NamedTuple):
    """What has come since the last look."""

    fresh: list[Fresh]
    """At most one for each sequence."""
    ended: bool
    """All sequences are complete, or stopped."""
    comment: str
    """What to tell a client that waits for its first token; mostly nothing."""


class InFlight:
    """Chunks go in at one end (`take`), ids come out at the other (`news`), each once and in order."""

    def __init__(self, request: RequestId, model: ModelId, n: int = 1) -> None:
        self.id = request
        self.model = model
        self.sequences = [Sequence(index) for index in range(n)]
        self.account = Account()
        self.attempt = 1
        self.placement: Placement | None = None
        self.counted: InstanceId | None = None
        """Whose load it is part of."""
        self.ticket: Ticket | None = None
        self.ended: Ended | None = None
        self.failure: ApiError | None = None
        self.sent = False
        """Somebody may be working on it, or may come to."""
        self.closed = False
        """Nobody waits for it any more."""
        self._loop = get_running_loop()
        self.opened_at = self.heard_at = self.spoken_at = self._loop.time()
        self._comment = ""
        self._changed = False
        self._waiter: Future[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.ended is not None or self.failure is not None

    @property
    def received(self) -> int:
        """Tokens of all sequences."""
        return sum(sequence.received for sequence in self.sequences)

    @property
    def stopped(self) -> bool:
        """Its client has read enough of every sequence, or all there is."""
        return any(each.stopped for each in self.sequences) and all(each.over for each in self.sequences)

    def take(self, chunk: Chunk) -> None:
        """One chunk; late, repeated and foreign ones change nothing. ValueError when it makes no sense."""
        if chunk.attempt != self.attempt or self.over:
            return
        match chunk:
            case Tokens():
                self._take_tokens(chunk)
            case SequenceEnded():
                self._sequence(chunk.index).reason = chunk.reason
                self.wake()
            case Ended():
                self._take_end(chunk)
            case Failed():
                self.fail(_failed(chunk))
            case Started() | Prefilled():
                pass
        self.heard_at = self._loop.time()

    def _sequence(self, index: int) -> Sequence:
        if not 0 <= index < len(self.sequences):
            raise ValueError(f"sequence {index} of {len(self.sequences)}")
        return self.sequences[index]

    def _take_tokens(self, chunk: Tokens) -> None:
        sequence = self._sequence(chunk.index)
        known = sequence.received
        if sequence.take(chunk):
            if sequence.received > known:
                self.account.took(chunk.index, sequence.received - known)
            self.wake()
        else:
            self.fail(_gap(f"tokens {sequence.received} to {chunk.offset - 1} were lost on the bus"))

    def _take_end(self, chunk: Ended) -> None:
        """The end token is counted by some engines, and never sent: one may be missing, more may not."""
        missing = chunk.usage.completion_tokens - self.received
        if missing > len(self.sequences):
            self.fail(_gap(f"the last {missing} tokens were lost on the bus"))
        elif any(each.reason == "cancelled" and not each.stopped for each in self.sequences):
            self.fail(unavailable("The request was cancelled in the cluster.", code="cancelled"))
        else:
            self.ended = chunk
            self.wake()

    def stop(self, index: int) -> None:
        """No more tokens of this sequence are handed out."""
        self.sequences[index].stop()
        self.wake()

    def fail(self, error: ApiError) -> None:
        """What has come is still handed out; then the error is raised."""
        if not self.over:
            self.failure = error
            self.wake()

    def remark(self, comment: str) -> None:
        """Have the client told that it is not forgotten."""
        self._comment = comment
        self.wake()

    def wake(self) -> None:
        """Have `news` return, if only with nothing: the state may have become what somebody waits for."""
        self._changed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def news(self) -> News:
        """Wait for a change; raises `ApiError` when the request has failed and all ids are handed out."""
        while not self._changed:
            self._waiter = self._loop.create_future()
            await self._waiter
        fresh = [each for each in (sequence.fresh() for sequence in self.sequences) if each is not None]
        if fresh:
            self.spoken_at = self._loop.time()
        elif self.failure is not None:
            raise self.failure
        comment, self._comment = self._comment, ""
        self._changed = self.failure is not None
        return News(fresh, self.ended is not None or self.stopped, comment)


def _failed(chunk: Failed) -> ApiError:
    status = STATUS[chunk.code]
    retry_after_s = LOST_RETRY_S if status == 503 else None
    return ApiError(
        status, chunk.reason or "The engine failed.", code=chunk.code, retry_after_s=retry_after_s
    )


def _gap(what: str) -> ApiError:
    return unavailable(f"The answer broke off: {what}. Send the request again.", LOST_RETRY_S, "chunks_lost")
