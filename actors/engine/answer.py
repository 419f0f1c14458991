"""One attempt at a request while it runs: which of its sequences are open, what they count, how they end."""

from time import perf_counter

from msgspec import Struct

from actors.engine.port import Origin
from schemas.chunks import (
    Chunk,
    Ended,
    Failed,
    FailureCode,
    FinishReason,
    SequenceEnded,
    Started,
    Timings,
    Usage,
)
from schemas.ids import RequestId
from schemas.task import Task


class Tally(Struct):
    """Tokens that a draft proposed, and those of them that were right."""

    drafted: int = 0
    accepted: int = 0

    @property
    def rejected(self) -> int:
        return self.drafted - self.accepted

    def note(self, drafted: int, accepted: int) -> None:
        self.drafted += drafted
        self.accepted += accepted


class Answer:
    """Counts the tokens of each of the task's `n` sequences; `over` when none is open any more."""

    def __init__(self, task: Task, prompt: int) -> None:
        self.task = task
        self.prompt = prompt
        """Tokens of the client's prompt."""
        self.counts = [made.count for made in task.made] or [0] * task.n
        """Tokens of each sequence, those of earlier attempts included."""
        complete = {index for index, made in enumerate(task.made) if made.reason is not None}
        self.open = set(range(task.n)) - complete
        self.failed = False
        self.tally = Tally()
        self.cached = 0
        """Tokens of the prompt that need not be computed."""
        self._since = perf_counter()
        self._began = 0.0
        self._prefilled = 0.0

    @property
    def over(self) -> bool:
        return not self.open

    @property
    def seats(self) -> int:
        """Sequences that are followed at once, at most."""
        return self.task.seats if self.task.beams else len(self.open)

    @property
    def begun(self) -> bool:
        return self._began > 0

    def is_of(self, request: RequestId, attempt: int) -> bool:
        """Attempt 0 means any."""
        return self.task.request == request and attempt in (0, self.task.attempt)

    def start(self, origin: Origin) -> Started:
        self._began = perf_counter()
        task = self.task
        return Started(
            *(task.request, task.attempt, origin.instance, origin.node, origin.attempt),
            cached_tokens=self.cached,
        )

    def note_cached(self, tokens: int) -> None:
        """So many of its first tokens were known, before the first that was made."""
        if self._prefilled:
            return
        self.cached = max(self.cached, min(tokens, self.prompt))

    def note_prefilled(self) -> None:
        """Its first sequence decodes from now on."""
        self._prefilled = self._prefilled or perf_counter()

    def end(self, index: int, reason: FinishReason) -> list[Chunk]:
        """One sequence is complete, and with the last one the request; nothing where it was so before."""
        if index not in self.open:
            return []
        self.open.discard(index)
        task = self.task
        ended = SequenceEnded(task.request, task.attempt, index, reason, self.counts[index])
        return [ended] if self.open else [ended, self.ended()]

    def end_all(self, reason: FinishReason) -> list[Chunk]:
        return [chunk for index in sorted(self.open) for chunk in self.end(index, reason)]

    def ended(self) -> Ended:
        task, tally = self.task, self.tally
        usage = Usage(self.prompt, sum(self.counts), self.cached, tally.accepted, tally.rejected)
        return Ended(task.request, task.attempt, usage, self._timings())

    def _timings(self) -> Timings:
        now = perf_counter()
        began = self._began or now
        prefilled = self._prefilled or now
        return Timings(began - self._since, prefilled - began, now - prefilled)

    def fail(self, code: FailureCode, reason: str) -> list[Chunk]:
        """The request ends here without an answer, unless it has ended before."""
        if self.over:
            return []
        self.open.clear()
        self.failed = True
        return [Failed(self.task.request, self.task.attempt, code, reason)]
