"""How the next tokens of rows are drawn together, each as it would be alone.

Rows that are drawn in the same way make one group, and a group is a few operations whatever its size. A row takes
part in no other group's work: greedy rows pay for nobody's `top_p`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import mlx.core as mx
from msgspec import Struct

from actors.engine.adjustment import Adjustment
from actors.engine.arrays import vmap
from actors.engine.keys import keys_of
from actors.engine.row import Row

COLDEST = 1e-5
"""Temperatures below are taken as this one."""


class Filter(Struct, frozen=True):
    """Which tokens are left to draw from, apart from values that may differ between the rows of a group."""

    top_k: int = 0
    top_p: bool = False
    min_p: bool = False


class Way(Struct, frozen=True):
    """How rows of one group are drawn; no filter: the likeliest token."""

    adjusted: bool
    filter: Filter | None


def way_of(row: Row) -> Way:
    sampling = row.sampling
    adjusted = Adjustment.wanted(row)
    if sampling.temperature == 0:
        return Way(adjusted, None)
    return Way(adjusted, Filter(sampling.top_k, sampling.top_p < 1, sampling.min_p > 0))


class Sampler:
    """Draws for these rows, by their seats (None: an empty seat), until they change."""

    def __init__(self, rows: Sequence[Row | None], vocabulary: int) -> None:
        seats: dict[Way, list[int]] = {}
        for seat, row in enumerate(rows):
            if row is not None:
                seats.setdefault(way_of(row), []).append(seat)
        self._groups = [Group(way, at, rows, vocabulary) for way, at in seats.items()]
        self._alone = len(self._groups) == 1 and len(self._groups[0].rows) == len(rows)

    def draw(self, logits: mx.array, likeliest: mx.array) -> mx.array:
        """[seats] tokens of [seats, vocabulary] logits; `vocabulary` where a row's logits are not finite."""
        if self._alone:
            return self._groups[0].draw(logits, likeliest)
        tokens = likeliest
        for group in self._groups:
            if group.plain:
                continue
            part = group.draw(logits[group.seats], likeliest)
            tokens = mx.put_along_axis(tokens, group.seats, part.astype(tokens.dtype), axis=0)
        return tokens


class Group:
    """Rows that are drawn in one way."""

    def __init__(self, way: Way, seats: list[int], rows: Sequence[Row | None], vocabulary: int) -> None:
        self.rows = [row for seat in seats if (row := rows[seat]) is not None]
        self.seats = mx.array(seats)
        self.plain = way == Way(False, None)
        self._filter = way.filter
        self._adjustment = Adjustment(self.rows, vocabulary) if way.adjusted else None
        samplings = [row.sampling for row in self.rows]
        self._scale = _column([1.0 / max(each.temperature, COLDEST) for each in samplings])
        self._top_p = _column([each.top_p for each in samplings])
        self._min_p = _column([max(each.min_p, 1e-30) for each in samplings])

    def draw(self, logits: mx.array, likeliest: mx.array, keys: mx.array | None = None) -> mx.array:
        """[rows] tokens of [rows, vocabulary] logits; [rows, 2] `keys` of other positions than the rows' own."""
        if self.plain:
            return likeliest
        if self._adjustment is not None:
            logits = self._adjustment.of(logits)
        if self._filter is None:
            tokens = pick(logits)
        else:
            keys = keys_of([(row.stream, row.drawn) for row in self.rows]) if keys is None else keys
            tokens = drawer(self._filter)(logits, self._scale, self._top_p, self._min_p, keys)
        if self._adjustment is not None:
            self._adjustment.count(tokens)
        return tokens


def _column(values: list[float]) -> mx.array:
    return mx.array(values, dtype=mx.float32)[:, None]


def likeliest(logits: mx.array) -> mx.array:
    """[rows] tokens; `vocabulary` where the best logit is not finite, as NaN is the greatest of all."""
    finite = mx.isfinite(mx.max(logits, axis=-1))
    return mx.where(finite, mx.argmax(logits, axis=-1), logits.shape[-1])


pick: Callable[[mx.array], mx.array] = mx.compile(likeliest)
Draw = Callable[[mx.array, mx.array, mx.array, mx.array, mx.array], mx.array]
"""([rows, vocabulary] logits, [rows, 1] scale, top_p and min_p, [rows, 2] keys) -> [rows] tokens."""


def drawer(kept: Filter) -> Draw:
    """Compiled where the engine has warmed it up: to compile any other would make everybody wait for a compiler."""
    if kept == Filter():
        return _draw_all
    if kept == Filter(top_p=True):
        return _draw_top_p
    return partial(_draw, kept)


def _draw(
    kept: Filter, logits: mx.array, scale: mx.array, top_p: mx.array, min_p: mx.array, keys: mx.array
) -> mx.array:
    scaled = logits.astype(mx.float32) * scale
    noise = vmap(lambda key: mx.random.gumbel((logits.shape[-1],), key=key))(keys)
    drawn = mx.argmax(keep(kept, scaled, top_p, min_p) + noise, axis=-1)
    return mx.where(mx.isfinite(mx.max(logits, axis=-1)), drawn, logits.shape[-1])


_draw_all: Draw = mx.compile(partial(_draw, Filter()))
_draw_top_p: Draw = mx.compile(partial(_draw, Filter(top_p=True)))


def keep(kept: Filter, logits: mx.array, top_p: mx.array, min_p: mx.array) -> mx.array:
    """[rows, vocabulary] logits, -inf for those that are not left: `top_k`, of those `top_p`, of those `min_p`.

    Thresholds, and no permutation: noise in the last bits of two logits must not swap their random numbers.
    Equal logits are kept or dropped together.
    """
    if kept == Filter():
        return logits
    threshold = mx.full((logits.shape[0], 1), -mx.inf)
    ordered = logits
    if kept.top_k and kept.top_k < logits.shape[-1]:
        ordered = mx.topk(logits, kept.top_k, axis=-1)
        threshold = mx.min(ordered, axis=-1, keepdims=True)
    if kept.top_p:
        threshold = _least_likely(mx.sort(ordered, axis=-1), top_p)
    if kept.min_p:
        threshold = mx.maximum(threshold, mx.max(logits, axis=-1, keepdims=True) + mx.log(min_p))
    return mx.where(logits >= threshold, logits, -mx.inf)


def _least_likely(ascending: mx.array, top_p: mx.array) -> mx.array:
    """[rows, 1]: the smallest logit among the fewest likeliest that together have `top_p` of the probability."""
    inside = mx.cumsum(mx.softmax(ascending, axis=-1), axis=-1) > 1 - top_p
    return mx.min(mx.where(inside, ascending, ascending[..., -1:]), axis=-1, keepdims=True)
