"""Prompts that are read, a chunk in each step, so that nobody who decodes waits long, nor a short prompt for a long one."""

import copy
from time import perf_counter
from typing import Any

import mlx.core as mx
from msgspec import Struct

from actors.engine.arrays import evaluate
from actors.engine.decoding import Joining
from actors.engine.failure import REQUEST_ERRORS, failure
from actors.engine.ring import Cache
from actors.engine.row import Row
from schemas.chunks import Chunk, Prefilled

WAIT_S = 0.05
"""How long one who decodes may wait for a chunk of somebody else's prompt; seconds."""
ALONE_S = 0.25
"""How long a chunk may take while nobody decodes: cancels and shorter prompts wait as long."""
FEWEST = 16
"""Tokens of a chunk, however slow: fewer would cost about as much."""
OLDEST_EVERY = 4
"""Shortest first would let a long prompt starve: so often the oldest is next."""


class Reading:
    """A prompt on its way into a cache, for rows that begin with the same `until` ids."""

    def __init__(self, rows: list[Row], cache: Cache, read: int = 0) -> None:
        self.rows = rows
        self.cache = cache
        self.read = read
        shared = min(len(row.ids) - 1 for row in rows)
        self.until = shared if len(rows) == 1 else min(shared, max(rows[0].prompt, read))
        self._began = read

    @property
    def left(self) -> int:
        return self.until - self.read

    @property
    def over(self) -> bool:
        self.rows = [row for row in self.rows if not row.over]
        return not self.rows

    def sign_of_life(self) -> list[Chunk]:
        """Unless all was done at once: then the first token is sign enough."""
        task, last = self.rows[0].answer.task, self.rows[0].ids
        if self.left == 0 and self._at_once:
            return []
        return [Prefilled(task.request, task.attempt, self.read, len(last))]

    def go_on(self, model: Any, tokens: int) -> None:
        begin, self.read = self.read, min(self.read + tokens, self.until)
        self._at_once = begin == self._began and self.read == self.until
        model(mx.array([self.rows[0].ids[begin : self.read]]), self.cache)
        evaluate([layer.state for layer in self.cache])

    def fork(self) -> tuple[list[Joining], list["Reading"]]:
        """Rows that are ready, and those that have something of their own to read: what earlier attempts made."""
        ready = [Joining(row, self.cache) for row in self.rows if len(row.ids) - 1 == self.until]
        others = [row for row in self.rows if len(row.ids) - 1 > self.until]
        return ready, [Reading([row], copy.deepcopy(self.cache), self.until) for row in others]


class Pace(Struct):
    """How many tokens a second earlier chunks had."""

    most: int
    tokens_s: float = 500.0

    def tokens(self, seconds: float) -> int:
        return max(FEWEST, min(self.most, int(self.tokens_s * seconds)))

    def note(self, tokens: int, seconds: float) -> None:
        if tokens >= FEWEST:
            self.tokens_s = 0.5 * self.tokens_s + 0.5 * tokens / max(seconds, 1e-6)


class Prefill:
    """All prompts that are being read."""

    def __init__(self, model: Any, most: int) -> None:
        self._model = model
        self._pace = Pace(most)
        self._readings: list[Reading] = []
        self._turn = 0

    @property
    def rows(self) -> int:
        return sum(len(reading.rows) for reading in self._readings)

    def add(self, rows: list[Row], cache: Cache, read: int = 0) -> None:
        self._readings.append(Reading(rows, cache, read))

    def step(self, decoding: bool) -> tuple[list[Joining], list[Chunk]]:
        """One chunk's worth of prompts: a part of one, or several short ones."""
        self._readings = [reading for reading in self._readings if not reading.over]
        ready: list[Joining] = []
        chunks: list[Chunk] = []
        budget = self._pace.tokens(WAIT_S if decoding else ALONE_S)
        while budget > 0 and self._readings:
            reading = self._next()
            part = min(budget, reading.left)
            budget -= max(part, 1)
            try:
                self._read(reading, part)
            except REQUEST_ERRORS as error:
                chunks += reading.rows[0].answer.fail(*failure(error))
                self._readings.remove(reading)
                continue
            if part:
                chunks += reading.sign_of_life()
            if reading.left == 0:
                ready += self._leave(reading)
        return ready, chunks

    def _next(self) -> Reading:
        self._turn += 1
        if self._turn % OLDEST_EVERY == 0:
            return self._readings[0]
        return min(self._readings, key=lambda reading: reading.left)

    def _read(self, reading: Reading, tokens: int) -> None:
        if tokens:
            began = perf_counter()
            reading.go_on(self._model, tokens)
            self._pace.note(tokens, perf_counter() - began)

    def _leave(self, reading: Reading) -> list[Joining]:
        ready, others = reading.fork()
        at = self._readings.index(reading)
        self._readings[at : at + 1] = others
        for each in ready:
            each.row.answer.note_prefilled()
        return ready

    def clear(self) -> None:
        self._readings = []
