"""One request that a client waits for: what has come of it, checked, and who works on it."""

from asyncio import Future, get_running_loop
from typing import NamedTuple

import structlog

from api.catalogue import LOST_RETRY_S, Placement
from api.errors import ApiError, unavailable
from bus.queue import Ticket
from schemas.chunks import (
    Chunk,
    Ended,
    Failed,
    FailureCode,
    FinishReason,
    Prefilled,
    SequenceEnded,
    Started,
    Tokens,
)
from schemas.ids import InstanceId, ModelId, RequestId
from schemas.task import unpack_ids

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

    ids: list[int]
    ended: bool
    comment: str
    """What to tell a client that waits for its first token; mostly nothing."""


class InFlight:
    """Chunks go in at one end (`take`), ids come out at the other (`news`), each once and in order."""

    def __init__(self, request: RequestId, model: ModelId) -> None:
        self.id = request
        self.model = model
        self.attempt = 1
        self.placement: Placement | None = None
        self.counted: InstanceId | None = None
        """Whose load it is part of."""
        self.ticket: Ticket | None = None
        self.received = 0
        self.reason: FinishReason | None = None
        self.ended: Ended | None = None
        self.failure: ApiError | None = None
        self.sent = False
        """Somebody may be working on it, or may come to."""
        self.closed = False
        """Nobody waits for it any more."""
        self._loop = get_running_loop()
        self.opened_at = self.heard_at = self.spoken_at = self._loop.time()
        self._fresh = bytearray()
        self._comment = ""
        self._changed = False
        self._waiter: Future[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will come."""
        return self.ended is not None or self.failure is not None

    def take(self, chunk: Chunk) -> None:
        """One chunk; late, repeated and foreign ones change nothing. ValueError when it makes no sense."""
        if chunk.attempt != self.attempt or self.over:
            return
        match chunk:
            case Tokens():
                self._take_tokens(chunk)
            case SequenceEnded():
                self.reason = chunk.reason
            case Ended():
                self._take_end(chunk)
            case Failed():
                self.fail(_failed(chunk))
            case Started() | Prefilled():
                pass
        self.heard_at = self._loop.time()

    def _take_tokens(self, chunk: Tokens) -> None:
        if len(chunk.ids) % 4 or chunk.index != 0:
            raise ValueError(f"tokens of sequence {chunk.index} in {len(chunk.ids)} bytes")
        known = self.received - chunk.offset
        if known < 0:
            self.fail(_gap(f"tokens {self.received} to {chunk.offset - 1} were lost on the bus"))
        elif known * 4 < len(chunk.ids):
            self._fresh += chunk.ids[known * 4 :]
            self.received = chunk.offset + len(chunk.ids) // 4
            self.wake()

    def _take_end(self, chunk: Ended) -> None:
        """The end token is counted by some engines, and never sent: one may be missing, more may not."""
        if chunk.usage.completion_tokens > self.received + 1:
            missing = chunk.usage.completion_tokens - self.received
            self.fail(_gap(f"the last {missing} tokens were lost on the bus"))
        elif self.reason == "cancelled":
            self.fail(unavailable("The request was cancelled in the cluster.", code="cancelled"))
        else:
            self.ended = chunk
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
        if self._fresh:
            ids = unpack_ids(bytes(self._fresh))
            self._fresh.clear()
            self.spoken_at = self._loop.time()
        elif self.failure is not None:
            raise self.failure
        else:
            ids = []
        comment, self._comment = self._comment, ""
        self._changed = self.failure is not None
        return News(ids, self.ended is not None, comment)


def _failed(chunk: Failed) -> ApiError:
    status = STATUS[chunk.code]
    retry_after_s = LOST_RETRY_S if status == 503 else None
    return ApiError(
        status, chunk.reason or "The engine failed.", code=chunk.code, retry_after_s=retry_after_s
    )


def _gap(what: str) -> ApiError:
    return unavailable(f"The answer broke off: {what}. Send the request again.", LOST_RETRY_S, "chunks_lost")
