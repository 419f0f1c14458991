"""Prompts that are read, a chunk in each step, so that nobody who decodes waits long, nor a short prompt for a long one."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from actors.engine.arrays import evaluate
from actors.engine.attention import quick_attention
from actors.engine.batch import Cache
from actors.engine.decoding import Joining
from actors.engine.failure import REQUEST_ERRORS, Errors, failure
from actors.engine.pace import STRETCH, Pace
from actors.engine.prefix_cache import PrefixCache
from actors.engine.reading import Reading
from actors.engine.row import Row
from schemas.chunks import Chunk

WAIT_S = 0.2
"""Longest that those who decode may wait for a chunk of somebody else's prompt; seconds."""
WAIT_STEPS = 1.5
"""And no longer than so many of their own steps."""
BURST_S = 0.15
"""But so long while as many wait for their first token as decode: to read them in crumbs costs everybody more."""
ALONE_S = 0.25
"""How long a chunk may take while nobody decodes: cancels and shorter prompts wait as long."""
OLDEST_EVERY = 4
"""Shortest first would let a long prompt starve: so often the oldest is next."""


class Prefill:
    """All prompts that are being read."""

    def __init__(
        self,
        model: Any,
        make_cache: Callable[[], Cache],
        most: int,
        prefixes: PrefixCache,
        forgiven: Errors = REQUEST_ERRORS,
    ) -> None:
        """`most`: tokens of a chunk; `forgiven`: errors that end those who were read alone."""
        self._model = model
        self._make_cache = make_cache
        self._most = most
        self._pace = Pace()
        self._plain = all(type(layer) is KVCache for layer in make_cache())
        self._prefixes = prefixes
        self._forgiven = forgiven
        self._readings: list[Reading] = []
        self._turn = 0

    @property
    def rows(self) -> int:
        return sum(len(reading.rows) for reading in self._readings)

    def add(self, rows: list[Row]) -> None:
        reading = Reading(rows, self._make_cache())
        reading.begin(self._prefixes)
        self._readings.append(reading)

    def budget(self, decoding: int, step_s: float) -> int:
        """Tokens to read in one step, beside `decoding` rows whose steps take `step_s`: all that is decided by time."""
        left = [reading for reading in self._readings if not reading.over]
        depth = self._first(left, self._turn + 1).read if left else 0
        return self._pace.tokens(self._seconds(decoding, step_s), depth)

    def step(self, budget: int) -> tuple[list[Joining], list[Chunk]]:
        """So many tokens' worth of prompts: a part of one, or several."""
        self._readings = [reading for reading in self._readings if not reading.over]
        ready: list[Joining] = []
        chunks: list[Chunk] = []
        while budget > 0 and self._readings:
            chunk = min(budget, self._most)
            group = self._next(chunk)
            if ready:  # the time was measured out for them, who had perhaps less behind them
                chunk = max(1, chunk * STRETCH // (STRETCH + group[0].read))
            try:
                budget -= self._read(group, chunk)
            except self._forgiven as error:
                chunks += self._fail(group, error)
                continue
            for reading in group:
                chunks += reading.sign_of_life()
                if reading.left == 0:
                    ready += self._leave(reading)
                else:
                    budget = 0  # a part of a long prompt is enough
        return ready, chunks

    def _seconds(self, decoding: int, step_s: float) -> float:
        if not decoding:
            return ALONE_S
        wait_s = min(WAIT_S, WAIT_STEPS * step_s)
        return max(BURST_S, wait_s) if self.rows >= max(2, decoding) else wait_s

    def _first(self, readings: list[Reading], turn: int) -> Reading:
        """The shortest, or the oldest in its turn."""
        return readings[0] if turn % OLDEST_EVERY == 0 else min(readings, key=lambda reading: reading.left)

    def _next(self, budget: int) -> list[Reading]:
        """One, or short ones side by side that nobody has begun."""
        self._turn += 1
        first = self._first(self._readings, self._turn)
        if first.untouched:  # others may have read the same meanwhile
            first.begin(self._prefixes)
        if not (self._plain and first.untouched and 0 < first.left <= budget // 2):
            return [first]
        alike = [
            reading
            for reading in self._readings
            if reading is not first and reading.untouched and 0.8 <= reading.left / first.left <= 1.25
        ]
        longest = max(reading.left for reading in (first, *alike))
        return [first, *alike[: budget // longest - 1]]

    def _read(self, group: list[Reading], budget: int) -> int:
        """Tokens that were read."""
        tokens = min(budget, sum(reading.left for reading in group))
        if tokens:
            depth, began = group[0].read, perf_counter()
            with quick_attention():
                if len(group) == 1:
                    group[0].go_on(self._model, tokens)
                else:
                    self._read_together(group)
            self._pace.note(tokens, perf_counter() - began, depth)
        return max(tokens, 1)

    def _read_together(self, group: list[Reading]) -> None:
        """Whole prompts from their start: what pads the shorter ones comes after them, where nothing looks at it."""
        longest = max(reading.left for reading in group)
        ids = [reading.rows[0].ids[: reading.left] for reading in group]
        cache = self._make_cache()
        self._model(mx.array([line + [0] * (longest - len(line)) for line in ids]), cache)
        evaluate([layer.state for layer in cache])
        for at, reading in enumerate(group):
            for own, shared in zip(reading.cache, cache, strict=True):
                own.keys, own.values = shared.keys[at : at + 1], shared.values[at : at + 1]
                own.offset = reading.left
            reading.note(reading.left)

    def _fail(self, group: list[Reading], error: BaseException) -> list[Chunk]:
        if len(group) > 1:  # it may have been one of them, or all together
            for reading in group:
                reading.alone = True
            return []
        self._readings.remove(group[0])
        return [chunk for reading in group for chunk in reading.rows[0].answer.fail(*failure(error))]

    def _leave(self, reading: Reading) -> list[Joining]:
        if self._plain and reading.rows[0].whole:
            self._prefixes.keep(reading.rows[0].ids[: reading.until], reading.cache)
        ready, others = reading.fork()
        at = self._readings.index(reading)
        self._readings[at : at + 1] = others
        for each in ready:
            each.row.answer.note_prefilled()
        return ready

    def clear(self) -> None:
        self._readings = []
