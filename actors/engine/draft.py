"""A small model that reads along with one row of a large one, and says what that may draw next."""

from time import perf_counter
from typing import Any

import mlx.core as mx

from actors.engine.arrays import evaluate
from actors.engine.batch import Batch, Cache
from actors.engine.fitting import MakeCache
from actors.engine.pace import Pace
from actors.engine.prefix_cache import common
from actors.engine.row import Row
from actors.engine.sampler import Sampler

LEAST_S = 0.01
"""So long it may read at once, however short the large model's steps are; seconds."""

BEFORE_MEASURED = 5000.0
"""Tokens that it is thought to read in a second; were they few, it might never be tried."""


class Draft:
    """`follow` a row, `read` until `ready`, then `propose` and `settle` in turn. What it has read it keeps for the row
    that comes after, should that begin alike."""

    def __init__(self, model: Any, batch: Batch, make_cache: MakeCache, vocabulary: int, own: int) -> None:
        """`vocabulary`: of the large model; `own`: how many logits this one gives. Both may be padded."""
        self._model = model
        self._batch = batch
        self._make_cache = make_cache
        self._vocabulary = vocabulary
        self._own = own
        self._pace = Pace(BEFORE_MEASURED)
        self._ids: list[int] = []
        """Of the row that it follows; it has read the first `_known`."""
        self._known = 0
        self._cache: Cache | None = None
        """While it reads; what it has read is in the batch otherwise."""

    @property
    def nbytes(self) -> int:
        return self._batch.nbytes + sum(layer.nbytes for layer in self._cache or ())

    @property
    def left(self) -> int:
        """Ids that it has not read, without the last one."""
        return len(self._ids) - 1 - self._known

    @property
    def ready(self) -> bool:
        """Two ids at most go with the first proposal."""
        return self.left <= 1

    @property
    def left_s(self) -> float:
        """How long it takes to read what is left."""
        return self.left / self._pace.tokens_s

    def follow(self, row: Row) -> None:
        if row.ids is not self._ids:
            known = common(self._ids[: self._known], row.ids[:-1])
            self._ids = row.ids
            self._rewind(self._known - known)

    def read(self, seconds: float) -> None:
        """For about so long."""
        ids = self._ids[self._known : -1][: self._pace.tokens(max(seconds, LEAST_S))]
        if self._cache is None:
            self._cache = self._batch.extract(0) if self._known else self._make_cache()
            self._batch.keep([])
        began = perf_counter()
        self._model(self._own_ids(mx.array([ids])), self._cache)
        evaluate([layer.state for layer in self._cache])
        self._pace.note(len(ids), perf_counter() - began)
        self._known += len(ids)

    def propose(self, row: Row, count: int) -> mx.array:
        """[count] tokens that it would draw in the row's place, with the row's own random numbers; lazy."""
        self._sit_down()
        unread = mx.array(row.ids[self._known :])
        sampler = Sampler([row], self._vocabulary)
        tokens: list[mx.array] = []
        while len(tokens) < count:
            best, logits = self._batch.score(self._own_ids(tokens[-1] if tokens else unread))
            drawn = sampler.draw(self._widened(logits[-1:]), best[-1:])
            tokens.append(mx.minimum(drawn, self._vocabulary - 1))
            row.drawn += 1
        row.drawn = row.position
        self._known = len(row.ids) + count - 1
        return mx.concatenate(tokens)

    def settle(self, count: int, taken: int) -> None:
        """Of `count` tokens that it proposed, the first `taken - 1` were right: `taken` new ones are there."""
        self._rewind(max(0, count - taken))

    def _sit_down(self) -> None:
        if self._cache is not None or self._batch.seats == 0:
            self._batch.add([self._cache or self._make_cache()])
            self._cache = None

    def _rewind(self, tokens: int) -> None:
        self._known -= tokens
        if not tokens:
            return
        if self._cache is None:
            self._batch.rewind(tokens)
        else:
            for layer in self._cache:
                layer.trim(tokens)

    def _own_ids(self, ids: mx.array) -> mx.array:
        return ids if self._own >= self._vocabulary else mx.minimum(ids, self._own - 1)

    def _widened(self, logits: mx.array) -> mx.array:
        """As many as the large model's, so that the random numbers are the same."""
        missing = self._vocabulary - self._own
        if missing <= 0:
            return logits[:, : self._vocabulary]
        return mx.pad(logits, [(0, 0), (0, missing)], constant_values=-mx.inf)
