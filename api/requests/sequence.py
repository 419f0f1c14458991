"""One of a request's `n` sequences: what has come of it, whole for a later attempt, and in part for the client."""

from msgspec import Struct

from schemas.chunks import FinishReason, TokenLogprobs, Tokens
from schemas.task import Made, unpack_ids


class Fresh(Struct, frozen=True, gc=False):
    """Tokens of one sequence since the last look, each once and in order."""

    index: int
    ids: list[int]
    logprobs: list[TokenLogprobs]
    """One for each id, or none at all when the task did not ask for them."""
    reason: FinishReason | None
    """Set once: with the last tokens of the sequence, or alone."""


class Sequence:
    """Tokens go in as they come (`take`), and come out once (`fresh`); the ids of all are kept."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.reason: FinishReason | None = None
        self.stopped = False
        """Its client has read enough of it: no more is handed out."""
        self.received = 0
        self._ids = bytearray()
        self._logprobs: list[TokenLogprobs] = []
        self._shown = 0
        self._told = False

    @property
    def over(self) -> bool:
        return self.stopped or self.reason is not None

    @property
    def made(self) -> Made:
        """For an attempt that goes on from here."""
        return Made(bytes(self._ids), "stop" if self.stopped else self.reason)

    def take(self, chunk: Tokens) -> int:
        """How many of its tokens are new; negative when some before it are missing. ValueError when it makes no sense."""
        ids, logprobs = chunk.ids, chunk.logprobs
        count, rest = divmod(len(ids), 4)
        if rest or (logprobs is not None and len(logprobs) != count):
            raise ValueError(f"tokens of sequence {chunk.index} in {len(ids)} bytes")
        known = self.received - chunk.offset
        if known < 0:
            return known
        if known >= count:
            return 0
        self._ids += ids[known * 4 :]
        if logprobs is not None:
            self._logprobs += logprobs[known:]
        self.received += count - known
        return count - known

    def rewind(self, received: int) -> None:
        """Forget what is beyond, while nobody has seen it: another attempt went on from there."""
        if received < self.received:
            del self._ids[4 * received :], self._logprobs[received:]
            self.received, self.reason = received, None

    def stop(self) -> None:
        self.stopped = True
        self._logprobs.clear()

    def fresh(self) -> Fresh | None:
        """None when nothing has come."""
        shown, self._shown = self._shown, self.received
        reason = None if self._told else self.reason
        if self.stopped or (shown == self._shown and reason is None):
            return None
        self._told = reason is not None
        logprobs, self._logprobs = self._logprobs, []
        return Fresh(self.index, unpack_ids(self._ids[4 * shown :]), logprobs, reason)
