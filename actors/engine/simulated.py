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

from actors.engine.ending import ending
from actors.engine.fault import fault
from actors.engine.nonsense import Nonsense, read_nonsense
from actors.engine.port import Origin, Report
from schemas.chunks import Chunk, Failed, FinishReason, Prefilled, Started, Timings, Tokens
from schemas.ids import RequestId
from schemas.model import SimulatedSpeed
from schemas.task import Task, made_of, unpack_ids

SIGN_OF_LIFE_S = 0.5
"""Longest wait of one step while a prompt is read; seconds."""


class Run(Struct, eq=False):
    """A request in the making."""

    task: Task
    prompt: int
    since: float
    ready_at: float
    position: int
    start: int
    """Where in the table of tokens this answer begins."""
    over: bool = False

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
        self._waiting: list[Run] = []
        self._prefilling: list[Run] = []
        self._decoding: list[Run] = []
        self._chunks: list[Chunk] = []
        self._next_step = 0.0
        self._news = threading.Event()

    @property
    def slots(self) -> int:
        return self._speed.slots

    @property
    def idle(self) -> bool:
        return not (self._decoding or self._prefilling or self._waiting or self._chunks)

    def load(self, report: Report) -> None:
        report("reading")
        self._nonsense = read_nonsense(self._folder)
        self._wait(self._speed.load_s)

    def warm(self) -> None:
        """Nothing gets faster here."""

    def add(self, task: Task) -> None:
        try:
            ids = unpack_ids(task.prompt + made_of(task).ids)
        except ValueError as error:
            return self._refuse(task, f"the prompt is no list of tokens: {error}")
        wrong = fault(task, ids, self._nonsense.vocabulary, self._context)
        if wrong is not None:
            return self._refuse(task, wrong)
        made = made_of(task).count
        prompt = len(ids) - made
        start = self._nonsense.start(task.prompt, task.sampling)
        self._waiting.append(Run(task, prompt, monotonic(), 0.0, made, start))

    def cancel(self, request: RequestId, attempt: int) -> None:
        for runs in (self._waiting, self._prefilling, self._decoding):
            for run in runs:
                if run.task.request == request and attempt in (0, run.task.attempt) and not run.over:
                    self._end(run, "cancelled")
        self._forget_ended()

    def _forget_ended(self) -> None:
        self._waiting = [run for run in self._waiting if not run.over]
        self._prefilling = sorted(run for run in self._prefilling if not run.over)
        self._decoding = [run for run in self._decoding if not run.over]

    def step(self) -> list[Chunk]:
        self._admit()
        if not self._chunks:
            self._wait_until_due()
        now = monotonic()
        while self._prefilling and self._prefilling[0].ready_at <= now:
            self._decoding.append(heappop(self._prefilling))
        if self._decoding and self._next_step <= now:
            self._decode(now)
        elif not self._chunks:
            self._chunks += self._signs_of_life(now)
        chunks, self._chunks = self._chunks, []
        return chunks

    def _admit(self) -> None:
        free = self._speed.slots - len(self._prefilling) - len(self._decoding)
        joining, self._waiting = self._waiting[:free], self._waiting[free:]
        now = monotonic()
        for run in joining:
            run.ready_at = now + (run.prompt + made_of(run.task).count) / self._speed.prefill
            origin, task = self._origin, run.task
            self._chunks.append(
                Started(task.request, task.attempt, origin.instance, origin.node, origin.attempt)
            )
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
            task, position = run.task, run.position
            send(Tokens(task.request, task.attempt, 0, position, token(run.start, position)))
            run.position = position + 1
            if run.position >= task.max_tokens:
                self._end(run, "length")
                ended = True
        if ended:
            self._forget_ended()

    def _signs_of_life(self, now: float) -> Iterable[Chunk]:
        for run in self._prefilling:
            total = run.prompt + made_of(run.task).count
            done = max(0, total - int((run.ready_at - now) * self._speed.prefill))
            yield Prefilled(run.task.request, run.task.attempt, done, total)

    def _end(self, run: Run, reason: FinishReason) -> None:
        run.over = True
        now = monotonic()
        ready_at = run.ready_at or now
        timings = Timings(0.0, max(0.0, min(ready_at, now) - run.since), max(0.0, now - ready_at))
        self._chunks += ending(run.task, run.prompt, run.position, reason, timings)

    def _refuse(self, task: Task, reason: str) -> None:
        self._chunks.append(Failed(task.request, task.attempt, "bad_request", reason))

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._waiting, self._prefilling, self._decoding = [], [], []
