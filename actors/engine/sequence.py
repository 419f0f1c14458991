"""One answer in the making: its prompt is read in chunks, then its tokens are decoded one by one."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import mlx.core as mx
from msgspec import Struct

from actors.engine.arrays import evaluate, integer, start
from actors.engine.decoding import Step
from actors.engine.ending import ending
from actors.engine.logprobs import Logprobs
from actors.engine.sampler import chooser
from schemas.chunks import Chunk, FinishReason, Prefilled, Timings, Tokens
from schemas.task import Task, made_of

SHORT_TAIL = 32
"""The rest of a prompt goes through the model at once up to here; more would pay for too many unused logits."""


class Decoder(Struct, frozen=True):
    """What all sequences of an engine share."""

    model: Any
    make_cache: Callable[[], Sequence[Any]]
    begin: Callable[[Sequence[Any]], Step]
    """The step of decoding that goes on from a prefilled cache."""
    prefill_chunk: int
    """Tokens of prompt in one step of the engine."""
    ahead: bool
    """Compute one token ahead, so that Python's work is hidden; on a CPU there is nothing to hide it behind."""


class AnswerSequence:
    """The run of one task; `step` until `ended`."""

    def __init__(self, task: Task, ids: list[int], decoder: Decoder, waited_s: float) -> None:
        self.task = task
        self.ended = False
        self._ids = ids
        self._decoder = decoder
        self._cache = decoder.make_cache()
        self._choose = chooser(task.sampling, index=0)
        self._logprobs = Logprobs(task.logprobs) if task.logprobs >= 0 else None
        self._stop = frozenset(task.stop_ids)
        self._position = made_of(task).count
        self._read = 0
        self._decode: Step | None = None
        self._token: mx.array | None = None
        self._waited_s = waited_s
        self._began = perf_counter()
        self._prefilled: float | None = None

    def step(self) -> list[Chunk]:
        """One chunk of the prompt, or one token."""
        if self._position >= self.task.max_tokens:
            return self.end("length")
        if self._token is not None:
            return self._next(self._token)
        if len(self._ids) - self._read > SHORT_TAIL:
            return self._prefill()
        return self._first()

    def _prefill(self) -> list[Chunk]:
        begin = self._read
        self._read = min(begin + self._decoder.prefill_chunk, len(self._ids) - 1)
        self._decoder.model(mx.array(self._ids[begin : self._read])[None], self._cache)
        evaluate([layer.state for layer in self._cache])
        if begin == 0 and self._read == len(self._ids) - 1:
            return []  # done at once: the first token is sign enough
        return [Prefilled(self.task.request, self.task.attempt, self._read, len(self._ids))]

    def _first(self) -> list[Chunk]:
        tail = mx.array(self._ids[self._read :])[None]
        logits = self._decoder.model(tail, self._cache)[:, -1, :]
        self._decode = self._decoder.begin(self._cache)
        self._cache = ()  # the arrays have one owner now, and can be written in place
        token = self._drawn(logits, self._position)
        evaluate(token)
        self._prefilled = perf_counter()
        return self._next(token)

    def _next(self, token: mx.array) -> list[Chunk]:
        """Reads the token that is drawn, and describes the one after it; computes that one too if ahead."""
        start(token)
        task, position = self.task, self._position
        details = self._logprobs.take() if self._logprobs else None
        if position + 1 < task.max_tokens and self._decode is not None:
            self._token = self._drawn(self._decode(token), position + 1)
            if self._decoder.ahead:
                start(self._token)
        chosen = integer(token)
        if chosen in self._stop:
            return self.end("stop")
        self._position = position + 1
        logprobs = self._logprobs.read(details) if self._logprobs and details else None
        sent = Tokens(task.request, task.attempt, 0, position, chosen.to_bytes(4, "little"), logprobs)
        if self._position >= task.max_tokens:
            return [sent, *self.end("length")]
        return [sent]

    def _drawn(self, logits: mx.array, position: int) -> mx.array:
        token = self._choose(logits, position)
        if self._logprobs:
            self._logprobs.of(logits, token)
        return token

    def end(self, reason: FinishReason) -> list[Chunk]:
        """The chunks that end the request; what it held is let go."""
        self.ended = True
        self._decode, self._token, self._cache = None, None, ()
        now = perf_counter()
        prefilled = self._prefilled or now
        timings = Timings(self._waited_s, prefilled - self._began, now - prefilled)
        return ending(self.task, len(self._ids) - made_of(self.task).count, self._position, reason, timings)
