"""Prompts that are read, a part in each step, so that nobody who decodes waits long, nor a short prompt for a long one.

The model is given a portion of a prompt at once: behind thousands of tokens it reads all their keys and values once for
it, so that small portions are dear. Those who decode need not wait for all of it, as it stops where it is when
their patience is over, and goes on in the next step; a shorter prompt may come between too.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

import mlx.core as mx

from actors.engine.arrays import evaluate
from actors.engine.batch import Cache
from actors.engine.decoding import Joining
from actors.engine.failure import REQUEST_ERRORS, Errors, failure
from actors.engine.pace import STRETCH, Pace
from actors.engine.patience import Patience
from actors.engine.portion import Portion
from actors.engine.prefix_cache import PrefixCache
from actors.engine.reading import Reading
from actors.engine.row import Row
from actors.engine.turn import Turn
from schemas.chunks import Chunk

GROUP_LEAST = 128
"""Tokens of a portion that does not stop, while nobody decodes: each goes through all weights, and over all links."""
STAGE_PIECES = 2
"""A pipeline reads a prompt in so many pieces for each of its stages, so that all of them are at work most of the time."""
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
        plain: bool,
        forgiven: Errors = REQUEST_ERRORS,
        stops: bool = True,
        stages: int = 1,
    ) -> None:
        """`most`: tokens of a portion; `plain`: all layers keep all tokens; `forgiven`: errors that end those who were read
        alone; `stops`: in their midst too; `stages`: of the pipeline that it goes through."""
        self._model = model
        self._make_cache = make_cache
        self._most = most
        self._stops = stops
        self._stages = stages
        self._pace = Pace()
        self._patience = Patience()
        self._plain = plain
        self._prefixes = prefixes
        self._forgiven = forgiven
        self._readings: list[Reading] = []
        self._portions: list[Portion] = []
        """That are under way."""
        self._turn = 0

    @property
    def rows(self) -> int:
        return sum(len(reading.rows) for reading in self._readings)

    def add(self, rows: list[Row]) -> None:
        reading = Reading(rows, self._make_cache())
        reading.begin(self._prefixes)
        self._readings.append(reading)

    def turn(self, now: float, decoding: int, step_s: float) -> Turn:
        """What may be read in one step, beside `decoding` rows whose steps take `step_s`: all that is decided by time."""
        patience = self._patience
        patience.begin(decoding, self.rows, step_s)
        if self._stops:
            return Turn(now, self._most, patience.wait_s, patience.spare_s)
        left = [reading for reading in self._readings if not reading.over]
        first = self._first(left, self._turn + 1) if left else None
        depth, tokens = (first.read, first.left) if first else (0, 0)
        most_s = patience.wait_s + patience.spare_s
        at_once = self._pace.seconds(tokens, depth) <= most_s
        few = self._pace.tokens(most_s if at_once else patience.wait_s, depth)
        if decoding:
            return Turn(now, few)
        if self._stages > 1:
            few = min(few, tokens // (STAGE_PIECES * self._stages))
        return Turn(now, max(GROUP_LEAST, few))

    def step(self, turn: Turn) -> tuple[list[Joining], list[Chunk]]:
        """So many tokens' worth of prompts, or what the time allows: a part of one, or several."""
        self._sweep()
        ready: list[Joining] = []
        chunks: list[Chunk] = []
        began, budget, at_once_s = perf_counter(), turn.budget, 0.0
        while budget > 0 and self._readings:
            left_s = began + turn.wait_s + turn.spare_s - perf_counter()
            portion = self._next(budget, left_s, turn.wait_s, beside=bool(ready))
            deadline = inf if self._ends_within(left_s, portion) else began + turn.wait_s
            if budget < turn.budget and perf_counter() >= deadline:
                self._turn -= 1  # it comes first in the next step
                break
            try:
                if not portion.go_on(deadline):
                    break
            except self._forgiven as error:
                chunks += self._fail(portion, error)
                self._sweep()  # other parts of the same answer
                continue
            if deadline == inf:
                at_once_s = perf_counter() - began
            self._pace.note(portion.tokens, portion.spent_s, portion.depth, portion.longest_s)
            budget -= max(1, portion.tokens)
            for reading in self._end(portion):
                chunks += reading.sign_of_life()
                if reading.left:
                    budget = 0  # a part of a long prompt is enough
                    continue
                try:
                    ready += self._leave(reading)
                except self._forgiven as error:
                    self._prefixes.clear()  # memory may be what is short
                    chunks += self._give_up(reading, error)
        self._patience.note(at_once_s)
        return ready, chunks

    def _sweep(self) -> None:
        """Nobody waits for some of them any more."""
        for portion in [portion for portion in self._portions if portion.over]:
            portion.drop()
            self._portions.remove(portion)
        self._readings = [reading for reading in self._readings if not reading.over]

    def _first(self, readings: list[Reading], turn: int) -> Reading:
        """The shortest, or the oldest in its turn."""
        return readings[0] if turn % OLDEST_EVERY == 0 else min(readings, key=lambda reading: reading.left)

    def _next(self, budget: int, left_s: float, wait_s: float, beside: bool) -> Portion:
        """One that is under way, or a new one: of one prompt, or short ones side by side that nobody has begun."""
        self._turn += 1
        first = self._first(self._readings, self._turn)
        if first.under_way:
            return next(portion for portion in self._portions if first in portion.readings)
        if first.untouched:  # others may have read the same meanwhile
            first.begin(self._prefixes)
        together = budget if left_s == inf else min(budget, self._pace.tokens(left_s))
        group = [first, *self._alike(first, together)]
        if not self._seconds(group) <= left_s:
            budget = self._pace.chunk(wait_s, budget)
        if (
            beside and not self._stops
        ):  # the time was measured out for others, who had perhaps less behind them
            budget = max(1, budget * STRETCH // (STRETCH + first.read))
        return self._begin(group, budget)

    def _alike(self, first: Reading, budget: int) -> list[Reading]:
        """Others that may be read beside it."""
        if not (self._plain and first.untouched and 0 < first.left <= budget // 2):
            return []
        alike = [
            reading
            for reading in self._readings
            if reading is not first and reading.untouched and 0.8 <= reading.left / first.left <= 1.25
        ]
        longest = max(reading.left for reading in (first, *alike))
        return alike[: budget // longest - 1]

    def _begin(self, group: list[Reading], budget: int) -> Portion:
        tokens = min(budget, sum(reading.left for reading in group))
        whole = partial(self._read_together, group)
        portion = Portion(
            group, tokens, whole if len(group) > 1 else partial(group[0].go_on, self._model, tokens)
        )
        self._portions.append(portion)
        for reading in group:
            reading.under_way = True
        return portion

    def _end(self, portion: Portion) -> list[Reading]:
        """Those who still wait for it."""
        self._portions.remove(portion)
        for reading in portion.readings:
            reading.under_way = False
        return [reading for reading in portion.readings if not reading.over]

    def _seconds(self, readings: Sequence[Reading]) -> float:
        """To read all that is left of them."""
        return self._pace.seconds(sum(reading.left for reading in readings), readings[0].read)

    def _ends_within(self, seconds: float, portion: Portion) -> bool:
        """By what is known of the pace, which it has proved wrong when it takes longer."""
        return 0 <= self._seconds(portion.readings) - portion.spent_s <= seconds

    def _read_together(self, group: list[Reading]) -> None:
        """Whole prompts from their start: what pads the shorter ones comes after them, where nothing looks at it."""
        group = [reading for reading in group if not reading.over]
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

    def _fail(self, portion: Portion, error: BaseException) -> list[Chunk]:
        group = self._end(portion)
        if len(portion.readings) > 1:  # it may have been one of them, or all together
            for reading in group:
                reading.alone = True
            return []
        if not group:  # nobody waits for it any more
            return []
        return self._give_up(group[0], error)

    def _give_up(self, reading: Reading, error: BaseException) -> list[Chunk]:
        self._readings.remove(reading)
        return reading.rows[0].answer.fail(*failure(error))

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
        for portion in self._portions:
            portion.drop()
        self._portions, self._readings = [], []
