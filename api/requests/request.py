"""One request that a client waits for: what has come of it, checked, over as many attempts as it takes."""

from asyncio import Future, get_running_loop
from time import time
from typing import NamedTuple

import msgspec
from msgspec import Struct

from api.accounts.account import Account
from api.catalogue import Placement
from api.errors import ApiError
from api.requests.attempt import Attempt
from api.requests.sequence import Fresh, Sequence
from api.requests.suspicion import Suspicion
from schemas.chunks import Chunk, Ended, Prefilled, Searched, SequenceEnded, Timings, Tokens, Usage
from schemas.ids import ModelId, RequestId
from schemas.model import ModelSpec
from schemas.prefix import Digest
from schemas.task import Task

CLOCKS_APART_S = 5.0
"""A runner's clock may be wrong by so much before it ends a request whose owner still waits; seconds."""


class News(Struct, frozen=True, gc=False):
    """What has come since the last look."""

    fresh: list[Fresh]
    """At most one for each sequence."""
    comment: str
    """What to tell a client that waits for its next token; mostly nothing."""


class InFlight:
    """Chunks go in at one end (`take`), ids come out at the other (`news`), each once and in order."""

    def __init__(self, request: RequestId, model: ModelId, n: int = 1) -> None:
        self.id = self.answer = request
        """`answer`: that of the request which began the answer, if another one goes on with it."""
        self.model = model
        self.sequences = [Sequence(index) for index in range(n)]
        self.account = Account()
        self.task: Task | None = None
        """As it was made; each attempt's message is made from it."""
        self.spec: ModelSpec | None = None
        """Of the model that the task was made for; None: it is to be made, or any version will do."""
        self.payload = ""
        """Name of the object on the bus that holds the prompt, once a message cannot."""
        self.digests: list[Digest] | None = None
        """Of the prompt's blocks, once somebody has had to choose where to send it."""
        self.suspicion = Suspicion()
        self.fruitless = 0
        """Attempts in a row that failed and brought no token."""
        self.moves = 0
        """How many times it has lost whoever worked on it."""
        self.trouble: ApiError | None = None
        """What became of the last attempt: said when there is no time left for another one."""
        self.over = False
        """Nothing more will come."""
        self.ended: Ended | None = None
        self.failure: ApiError | None = None
        self.closed = False
        """Nobody waits for it any more."""
        self._loop = get_running_loop()
        self.opened_at = self.stalled_at = self.spoken_at = self._loop.time()
        self.current = Attempt(1, self.opened_at)
        self.deadline: float | None = None
        """Event loop time after which nobody waits for it any more; None: for ever."""
        self.clocks_differ = False
        """A runner took the deadline for passed that was not: this actor alone keeps it from then on."""
        self._depth = 0
        """Of a beam search, as far as any attempt came."""
        self._gap: _Gap | None = None
        self._comment = ""
        self._changed = False
        self._waiter: Future[None] | None = None

    @property
    def attempt(self) -> int:
        return self.current.number

    @property
    def placement(self) -> Placement | None:
        """Who works on it."""
        return self.current.placement

    @property
    def received(self) -> int:
        """Tokens of all sequences."""
        return sum(sequence.received for sequence in self.sequences)

    @property
    def begun(self) -> bool:
        """Something of the answer is here: it goes on from there, or breaks off."""
        return any(each.received or each.over for each in self.sequences)

    @property
    def stopped(self) -> bool:
        """Its client has read enough of every sequence, or all there is."""
        return any(each.stopped for each in self.sequences) and self.complete

    @property
    def complete(self) -> bool:
        return all(sequence.over for sequence in self.sequences)

    @property
    def gap(self) -> str:
        """Which tokens were sent and are not here, though later ones are; empty: none that is known."""
        gap = self._gap
        if gap is None or self.over or gap.attempt != self.attempt:
            return ""
        received = self.received if gap.index is None else self.sequences[gap.index].received
        return f"tokens {received} to {gap.until - 1} were lost on the bus" if received < gap.until else ""

    def message(self) -> Task:
        """The task of the present attempt: it goes on from what all earlier ones have made."""
        assert self.task is not None, "a request is dispatched with its task"
        made = tuple(each.made for each in self.sequences) if self.begun else ()
        deadline = 0.0
        if self.deadline is not None and not self.clocks_differ:
            deadline = time() + self.deadline - self._loop.time() + CLOCKS_APART_S
        task = msgspec.structs.replace(self.task, attempt=self.attempt, made=made, deadline=deadline)
        return msgspec.structs.replace(task, prompt=b"", payload=self.payload) if self.payload else task

    def begin_attempt(self) -> Attempt:
        """What comes of the one before no longer counts; returns the new one."""
        now = self._loop.time()
        if self.current.progressed:
            self.stalled_at = now
        self.current.settled.set()
        self.current = Attempt(self.attempt + 1, now)
        return self.current

    def recede(self) -> None:
        """Its task is to be made anew: whatever was on the way with the old one is void."""
        self.moves += 1
        self.digests, self.spec = None, None
        self.begin_attempt()

    def take(self, chunk: Chunk) -> None:
        """One chunk of the present attempt; repeated ones change nothing. ValueError when it makes no sense."""
        match chunk:
            case Tokens():
                self._take_tokens(chunk)
            case SequenceEnded():
                self._take_sequence_end(chunk)
            case Ended():
                self._take_end(chunk)
            case Prefilled():
                self.stalled_at = self._loop.time()
            case Searched():
                self._take_search(chunk)
            case _:
                pass
        self.current.heard_at = self._loop.time()

    def _sequence(self, index: int) -> Sequence:
        if not 0 <= index < len(self.sequences):
            raise ValueError(f"sequence {index} of {len(self.sequences)}")
        return self.sequences[index]

    def _take_tokens(self, chunk: Tokens) -> None:
        fresh = self._sequence(chunk.index).take(chunk)
        if fresh > 0:
            self.account.took(chunk.index, fresh)
            if not self.current.progressed:
                self._progress()
            self.wake()
        elif fresh < 0:
            self._gap = _Gap(self.attempt, chunk.index, chunk.offset)

    def _take_search(self, chunk: Searched) -> None:
        """Deeper than any attempt before is further."""
        if chunk.depth > self._depth:
            self._depth, self.stalled_at = chunk.depth, self._loop.time()
            self._progress()

    def _progress(self) -> None:
        self.current.progressed = True
        self.current.settled.set()
        self.suspicion.clear()
        self.fruitless = 0

    def _take_sequence_end(self, chunk: SequenceEnded) -> None:
        sequence = self._sequence(chunk.index)
        if chunk.count > sequence.received:
            self._gap = _Gap(self.attempt, chunk.index, chunk.count)
        elif not self.gap:
            sequence.reason = chunk.reason
            self.wake()

    def _take_end(self, chunk: Ended) -> None:
        """The end token is counted by some engines, and never sent: one may be missing, more may not."""
        if chunk.usage.completion_tokens > self.received + len(self.sequences):
            self._gap = _Gap(self.attempt, None, chunk.usage.completion_tokens)
        elif any(each.reason == "cancelled" and not each.stopped for each in self.sequences):
            self.fail(cancelled())
        elif not self.gap:
            self._end(chunk)

    def _end(self, chunk: Ended) -> None:
        self.over, self.ended = True, chunk
        self.current.settled.set()
        self.wake()

    def inherit(self, ended: Ended | None) -> None:
        """Its sequences have what earlier requests for the same answer made; `ended`: what that cost, if they had ended."""
        self.begin_attempt()
        if self.complete and ended is not None:
            self._end(ended)
        elif self.complete:
            self.finish()
        self.wake()

    def finish(self) -> None:
        """All sequences are complete, and whoever would have said so is gone."""
        prompt = self.account.prompt_tokens
        self._end(
            Ended(self.id, self.attempt, Usage(prompt, self.received, self.account.cached_tokens), Timings())
        )

    def stop(self, index: int) -> None:
        """No more tokens of this sequence are handed out."""
        self.sequences[index].stop()
        self.wake()

    def fail(self, error: ApiError) -> None:
        """What has come is still handed out; then the error is raised."""
        if not self.over:
            self.over, self.failure = True, error
            self.current.settled.set()
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
        fresh: list[Fresh] = []
        for sequence in self.sequences:
            if (each := sequence.fresh()) is not None:
                fresh.append(each)  # noqa: PERF401  # before Python 3.12 a comprehension is one call more
        if fresh:
            self.spoken_at = self._loop.time()
        elif self.failure is not None:
            raise self.failure
        comment, self._comment = self._comment, ""
        self._changed = self.failure is not None
        return News(fresh, comment)


class _Gap(NamedTuple):
    """Up to `until` tokens of a sequence (None: of all) are known to have been sent."""

    attempt: int
    index: int | None  # pyright: ignore[reportIncompatibleMethodOverride]  # a tuple's `index` is of no use here
    until: int


def cancelled() -> ApiError:
    """Not to be asked again by a client's own retries, hence no 5xx."""
    return ApiError(499, "The request was cancelled.", code="cancelled")
