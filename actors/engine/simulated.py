"""An engine that computes nothing: many requests at once, at set speeds, with tokens that only the prompt decides.

It is paced by the clock as an engine is by its arithmetic: all running requests get one token a step, a step every
1 / `decode` seconds; a prompt takes its length / `prefill` seconds, beside the others. `step` waits until
something is due, or until `wake`.
"""

import threading
from collections.abc import Iterable
from heapq import heappop, heappush
from pathlib import Path
from time import monotonic

from msgspec import Struct

from actors.engine.answer import Answer
from actors.engine.fault import fault
from actors.engine.nonsense import Nonsense, read_nonsense
from actors.engine.port import Gauges, Origin, PrefixChanges, Report
from actors.engine.room import Room
from actors.engine.simulated_cache import SimulatedCache
from schemas.chunks import Chunk, Failed, Prefilled, Tokens
from schemas.ids import RequestId
from schemas.model import SimulatedSpeed
from schemas.task import Task, unpack_ids

SIGN_OF_LIFE_S = 0.5
"""Longest wait of one step while a prompt is read; seconds."""


class Run(Struct, eq=False):
    """One sequence in the making."""

    answer: Answer
    index: int
    start: int
    """Where in the table of tokens this sequence begins."""
    position: int
    ready_at: float = 0.0

    @property
    def over(self) -> bool:
        return self.index not in self.answer.open

    @property
    def total(self) -> int:
        """Tokens to read before the next one is made."""
        return self.answer.prompt - self.answer.cached + self.position

    def __lt__(self, other: "Run") -> bool:
        return self.ready_at < other.ready_at


class SimulatedEngine:
    """Pretends to serve a model whose tokenizer is in `folder`."""

    def __init__(
        self, folder: Path, origin: Origin, speed: SimulatedSpeed, context: int | None = None
    ) -> None:
        self._folder = folder
        self._origin = origin
        self._speed = speed
        self._context = context
        self._nonsense = Nonsense(vocabulary=1, table=(bytes(4),))
        self._answers: list[Answer] = []
        self._waiting: list[Answer] = []
        self._prefilling: list[Run] = []
        self.room = Room()
        self._decoding: list[Run] = []
        self._chunks: list[Chunk] = []
        self._next_step = 0.0
        self._news = threading.Event()
        self._cache = SimulatedCache(speed.cache_tokens)

    @property
    def slots(self) -> int:
        return self._speed.slots

    @property
    def idle(self) -> bool:
        return not (self._decoding or self._prefilling or self._waiting or self._chunks)

    @property
    def gauges(self) -> Gauges:
        return Gauges(len(self._decoding), len(self._prefilling), len(self._waiting))

    def load(self, report: Report) -> None:
        report("reading")
        self._nonsense = read_nonsense(self._folder)
        self._wait(self._speed.load_s)

    def warm(self) -> None:
        """Nothing gets faster here."""

    def add(self, task: Task) -> None:
        try:
            prompt, made = unpack_ids(task.prompt), [unpack_ids(made.ids) for made in task.made]
        except ValueError as error:
            return self._refuse(task, f"the prompt is no list of tokens: {error}")
        wrong = fault(task, prompt, made, self._nonsense.vocabulary, self._context, self.slots)
        if wrong is None and task.logprobs >= 0:
            wrong = "logprobs are asked for, and a simulated engine has none"
        if wrong is None and task.grammar is not None:
            wrong = "a grammar is asked for, and a simulated engine follows none"
        if wrong is None and task.beams is not None:
            wrong = "use_beam_search is true, and a simulated engine has no probabilities to search by"
        if wrong is not None:
            return self._refuse(task, wrong)
        answer = Answer(task, len(prompt))
        if answer.over:  # earlier attempts have completed all its sequences
            self._chunks += [answer.start(self._origin), answer.ended()]
            return None
        self._answers.append(answer)
        self._waiting.append(answer)

    def cancel(self, request: RequestId, attempt: int, index: int | None = None) -> None:
        for answer in self._answers:
            if answer.is_of(request, attempt):
                self._chunks += (
                    answer.end_all("cancelled") if index is None else answer.end(index, "cancelled")
                )
        self._forget_ended()

    def _forget_ended(self) -> None:
        self._answers = [answer for answer in self._answers if not answer.over]
        self._waiting = [answer for answer in self._waiting if not answer.over]
        self._prefilling = sorted(run for run in self._prefilling if not run.over)
        self._decoding = [run for run in self._decoding if not run.over]

    def step(self) -> list[Chunk]:
        self._admit()
        if not self._chunks:
            self._wait_until_due()
        now = monotonic()
        while self._prefilling and self._prefilling[0].ready_at <= now:
            run = heappop(self._prefilling)
            run.answer.note_prefilled()
            self._cache.keep(run.answer.task.prompt)
            self._decoding.append(run)
        if self._decoding and self._next_step <= now:
            self._decode(now)
        elif not self._chunks:
            self._chunks += self._signs_of_life(now)
        chunks, self._chunks = self._chunks, []
        return chunks

    def _admit(self) -> None:
        """In the order they came, while there is room for all sequences of the next."""
        now = monotonic()
        while self._waiting:
            free = self._speed.slots - len(self._prefilling) - len(self._decoding)
            if len(self._waiting[0].open) > free:
                return
            answer = self._waiting.pop(0)
            answer.note_cached(self._cache.find(answer.task.prompt))
            self._chunks.append(answer.start(self._origin))
            for index in sorted(answer.open):
                self._join(answer, index, now)

    def _join(self, answer: Answer, index: int, now: float) -> None:
        start = self._nonsense.start(answer.task.prompt, answer.task.sampling) + index
        run = Run(answer, index, start, answer.counts[index])
        if run.position >= answer.task.max_tokens:
            self._chunks += answer.end(index, "length")
        else:
            run.ready_at = now + run.total / self._speed.prefill
            heappush(self._prefilling, run)

    def _wait_until_due(self) -> None:
        due = monotonic() + SIGN_OF_LIFE_S
        if self._decoding:
            due = min(due, self._next_step)
        if self._prefilling:
            due = min(due, self._prefilling[0].ready_at)
        self._wait(due - monotonic())

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._news.wait(seconds)
        self._news.clear()

    def _decode(self, now: float) -> None:
        """One token for each; the next step is due one period after this one was, so that no time is lost."""
        period = 1 / self._speed.decode
        self._next_step = max(self._next_step + period, now - period)
        send, token = self._chunks.append, self._nonsense.token
        ended = False
        for run in self._decoding:
            answer, position = run.answer, run.position
            task = answer.task
            send(Tokens(task.request, task.attempt, run.index, position, token(run.start, position)))
            run.position = answer.counts[run.index] = position + 1
            if run.position >= task.max_tokens:
                self._keep(run)
                self._chunks += answer.end(run.index, "length")
                ended = True
        if ended:
            self._forget_ended()

    def _keep(self, run: Run) -> None:
        """A whole conversation, for its next turn; of several answers to one prompt the first."""
        if self._speed.cache_tokens and run.index == 0:
            said = [self._nonsense.token(run.start, position) for position in range(run.position)]
            self._cache.keep(run.answer.task.prompt + b"".join(said))

    def _signs_of_life(self, now: float) -> Iterable[Chunk]:
        for run in self._prefilling:
            task, total = run.answer.task, run.total
            done = max(0, total - int((run.ready_at - now) * self._speed.prefill))
            yield Prefilled(task.request, task.attempt, run.answer.cached + done, run.answer.cached + total)

    def _refuse(self, task: Task, reason: str) -> None:
        self._chunks.append(Failed(task.request, task.attempt, "bad_request", reason))

    def prefix_changes(self) -> PrefixChanges | None:
        return self._cache.changes.take()

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._answers, self._waiting, self._prefilling, self._decoding = [], [], [], []
