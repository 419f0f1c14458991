"""Rows that decode together in a compiled step, for models whose layers all have plain key-value caches.

The step is traced once for each (rows, places that it looks at) and then replayed without Python: on a CPU, where small models are
all overhead, 1.1 to 2 times as fast. Keys and values of all rows lie in [rows, heads, capacity, width] arrays that
are written in place. Attention does not care where in them a token lies, so all rows share one place to write,
which goes round and round: a row's tokens lie in the `offset` places behind it. Nothing moves when others join.
While it has not gone round, places that nobody has written yet are not looked at.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from actors.engine.arrays import evaluate
from actors.engine.batch import Cache
from actors.engine.ring_step import Arrays, Steps

GROWTH = 256
"""Capacities are multiples of this at least, as mlx-lm's."""
FINE = 64
"""And what a step looks at is a multiple of this at least."""
SLACK = 128
"""Places that must be free for the rows to be moved to the front instead of going round."""


class RingBatch:
    """Goes on from prefilled caches of mlx-lm."""

    reseats = True

    def __init__(self, steps: Steps, empty: Cache) -> None:
        """`empty` is a cache that the model has written once: it tells the layers' shapes."""
        self._steps = steps
        self._empty = [(layer.keys[:, :, :0], layer.values[:, :, :0]) for layer in empty]
        self.clear()

    def another(self) -> "RingBatch":
        batch = copy(self)
        batch.clear()
        return batch

    def clear(self) -> None:
        self._keys: Arrays = []
        self._values: Arrays = []
        self._lengths: list[int] = []
        self._capacity = 0
        self._places = mx.zeros(0)
        self._moved(0)

    @property
    def seats(self) -> int:
        return len(self._lengths)

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in (*self._keys, *self._values))

    def _moved(self, place: int) -> None:
        """The arrays were written anew: so are the indices."""
        self._place = place
        self._place_array = mx.array([place])
        self._offsets = mx.array(self._lengths, dtype=mx.int32)

    def add(self, caches: Sequence[Cache]) -> None:
        lengths = [cache[0].offset for cache in caches]
        if self.seats == 0 and len(caches) == 1 and lengths[0]:
            return self._adopt(caches[0], lengths[0])
        if self.seats == 0:
            self._capacity, self._place = _round_up(max(lengths) + 1), max(lengths)
        self._make_room(max(lengths) + 1)
        first = self.seats
        self._keys = [self._with_seats(at, 0, len(caches)) for at in range(len(self._empty))]
        self._values = [self._with_seats(at, 1, len(caches)) for at in range(len(self._empty))]
        self._lengths += lengths
        for seat, cache in enumerate(caches, first):
            self._write(seat, cache)
        self._written()

    def _with_seats(self, layer: int, which: int, more: int) -> mx.array:
        """Its keys (0) or values (1), and room for as many rows more."""
        _, heads, _, width = self._empty[layer][which].shape
        seats = self.seats
        whole = mx.zeros((seats + more, heads, self._capacity, width), self._empty[layer][which].dtype)
        if seats:
            whole[:seats] = (self._keys, self._values)[which][layer]
        return whole

    def _write(self, seat: int, cache: Cache) -> None:
        """Its tokens, so that the next comes to the place of all; what else was there is older than they are."""
        length = self._lengths[seat]
        begin = (self._place - length) % self._capacity
        first = min(length, self._capacity - begin)
        for keys, values, layer in zip(self._keys, self._values, cache, strict=True):
            for whole, row in ((keys, layer.keys), (values, layer.values)):
                if first:
                    whole[seat, :, begin : begin + first] = row[0, :, :first]
                if first < length:
                    whole[seat, :, : length - first] = row[0, :, first:length]

    def _written(self) -> None:
        self._moved(self._place)
        evaluate(self._keys, self._values)

    def _adopt(self, cache: Cache, length: int) -> None:
        """A row alone: its arrays as they are."""
        self._keys = [layer.keys for layer in cache]
        self._values = [layer.values for layer in cache]
        self._capacity = self._keys[0].shape[2]
        self._lengths = [length]
        self._moved(length % self._capacity)
        if length == self._capacity:
            self._resize(_round_up(length + 1), length)

    def put(self, seat: int, cache: Cache) -> None:
        self._lengths[seat] = 0
        self._make_room(cache[0].offset + 1)
        self._lengths[seat] = cache[0].offset
        self._write(seat, cache)
        self._written()

    def keep(self, seats: Sequence[int]) -> None:
        if not seats:
            return self.clear()
        self._lengths = [self._lengths[seat] for seat in seats]
        kept = mx.array(list(seats))
        self._keys, self._values = (
            [keys[kept] for keys in self._keys],
            [values[kept] for values in self._values],
        )
        needed = _round_up(max(self._lengths) + 1)
        if needed < self._capacity:
            self._resize(needed, max(self._lengths))
        self._written()

    def copy(self, sources: Sequence[int], targets: Sequence[int], tokens: int) -> None:
        parts = self._latest(tokens)
        for source, target in zip(sources, targets, strict=True):
            for whole in (*self._keys, *self._values):
                for part in parts:
                    whole[target, :, part] = whole[source, :, part]
            self._lengths[target] = self._lengths[source]
        self._written()

    def _latest(self, tokens: int) -> list[slice]:
        """The places of the last tokens, of which there are no more than places."""
        begin, end = self._place - tokens, self._place
        if begin >= 0:
            return [slice(begin, end)]
        parts = [slice(self._capacity + begin, self._capacity), slice(0, end)]
        return parts if end else parts[:1]

    def leave(self, seat: int) -> None:
        self._lengths[seat] = 0

    def step(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        longest = max(self._lengths)
        self._make_room(longest + 1)
        if self._place == 0 and 0 < longest <= self._capacity - SLACK:
            self._resize(self._capacity, longest)
        return self._go_on(tokens[:, None])

    def score(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        length, count = self._lengths[0], tokens.shape[0]
        if max(self._place, length) + count > self._capacity:  # they must not go round
            self._resize(_round_up(length + count), length)
        return self._go_on(tokens[None])

    def rewind(self, tokens: int) -> None:
        self._lengths[0] -= tokens
        self._moved((self._place - tokens) % self._capacity)

    def _go_on(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        count = tokens.shape[1]
        straight = max(self._lengths) <= self._place
        places = self._visible(self._place + count if straight else self._capacity)
        self._lengths = [length + count for length in self._lengths]
        self._place = (self._place + count) % self._capacity
        best, logits, self._place_array, self._offsets, self._keys, self._values = self._steps(
            tokens, places, self._place_array, self._offsets, self._keys, self._values
        )
        return best, logits

    def _visible(self, places: int) -> mx.array:
        """The first places, no fewer than these: few sizes, as the step is traced for each."""
        seen = min(self._capacity, _round_up(places, FINE))
        if self._places.shape[0] != seen:
            self._places = mx.arange(seen)
        return self._places

    def _make_room(self, length: int) -> None:
        if length > self._capacity:
            self._resize(_round_up(length), self._capacity)

    def _resize(self, capacity: int, kept: int) -> None:
        """The latest `kept` tokens of the rows in order from place 0 on, and room behind them."""
        self._keys = [_straight(layer, self._place, kept, capacity) for layer in self._keys]
        self._values = [_straight(layer, self._place, kept, capacity) for layer in self._values]
        self._capacity = capacity
        self._moved(kept)

    def extract(self, seat: int) -> Cache:
        """Of a row alone whose tokens lie in order from place 0 on, the arrays as they are."""
        length = self._lengths[seat]
        as_it_is = self.seats == 1 and self._place == length
        row: list[Any] = []
        for keys, values in zip(self._keys, self._values, strict=True):
            layer = KVCache()
            layer.keys, layer.values, layer.offset = keys, values, length
            if not as_it_is:
                layer.keys = mx.contiguous(_straight(keys[seat : seat + 1], self._place, length, length))
                layer.values = mx.contiguous(_straight(values[seat : seat + 1], self._place, length, length))
            row.append(layer)
        evaluate([(layer.keys, layer.values) for layer in row])
        return row


def _round_up(length: int, least: int = GROWTH) -> int:
    """A few sizes for each doubling, so that steps are traced for few sizes."""
    multiple = max(least, (1 << (length - 1).bit_length()) // 8)
    return -(-length // multiple) * multiple


def _straight(layer: mx.array, place: int, kept: int, capacity: int) -> mx.array:
    """The `kept` places before `place` in order, then room."""
    rows, heads, _, width = layer.shape
    begin = place - kept
    straight = mx.zeros((rows, heads, capacity, width), layer.dtype)  # many times faster than to concatenate
    if begin >= 0:
        straight[:, :, :kept] = layer[:, :, begin:place]
    else:
        straight[:, :, :-begin] = layer[:, :, begin:]
        straight[:, :, -begin:kept] = layer[:, :, :place]
    return straight
