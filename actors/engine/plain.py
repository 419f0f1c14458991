"""Rows that decode together as mlx-lm decodes: any architecture whose caches mlx-lm can merge, or one row alone."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from actors.engine.arrays import evaluate
from actors.engine.batch import Cache
from actors.engine.sampler import pick


class PlainBatch:
    """mlx-lm's batch caches; a row alone keeps its own caches, which are faster."""

    reseats = False

    def __init__(self, model: Any) -> None:
        self._model = model
        self._caches: list[Any] = []
        self._merged = False
        """A row that is left alone in a batch keeps the batch's caches."""
        self.seats = 0

    def another(self) -> "PlainBatch":
        return PlainBatch(self._model)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._caches)

    def add(self, caches: Sequence[Cache]) -> None:
        if self.seats == 0 and len(caches) == 1:
            self._caches = list(caches[0])
        elif self._merged:
            for layer, new in zip(self._caches, merged(caches), strict=True):
                layer.extend(new)
        else:
            self._caches = merged([self._caches, *caches] if self.seats else caches)
            self._merged = True
        self.seats += len(caches)
        self._settle()

    def put(self, seat: int, cache: Cache) -> None:
        raise NotImplementedError("seats are not taken again")

    def keep(self, seats: Sequence[int]) -> None:
        if not seats:
            self._caches, self._merged = [], False
        elif self.seats > 1:
            kept = mx.array(list(seats))
            for layer in self._caches:
                layer.filter(kept)
            self._settle()
        self.seats = len(seats)

    def copy(self, sources: Sequence[int], targets: Sequence[int], tokens: int) -> None:
        """All of it: caches that rotate or recur have no last tokens."""
        del tokens
        became = dict(zip(targets, sources, strict=True))
        rows = mx.array([became.get(seat, seat) for seat in range(self.seats)])
        for layer in self._caches:
            layer.filter(rows)
        self._settle()

    def leave(self, seat: int) -> None:
        """Its seat is closed at once."""

    def step(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        logits = self._model(tokens[:, None], self._caches)[:, -1, :]
        return pick(logits), logits

    def score(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        logits = self._model(tokens[None], self._caches)[0]
        return pick(logits), logits

    def rewind(self, tokens: int) -> None:
        for layer in self._caches:
            layer.trim(tokens)

    def extract(self, seat: int) -> Cache:
        if not self._merged:
            return self._caches
        return [layer.extract(seat) for layer in self._caches]

    def _settle(self) -> None:
        evaluate([layer.state for layer in self._caches])


def merged(caches: Sequence[Cache]) -> list[Any]:
    """A batch cache for each layer; raises what mlx-lm raises where caches cannot be merged."""
    return [
        layers[0].merge(layers)
        for layers in ([cache[at] for cache in caches] for at in range(len(caches[0])))
    ]
