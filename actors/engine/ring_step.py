"""One step of decoding as a function of arrays alone, fit to be compiled: the place to write and offsets are arrays.

A step is a token of each row, or several tokens of the only row.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from actors.engine.sampler import likeliest

Arrays = list[mx.array]
Replay = Callable[[mx.array, mx.array, mx.array, mx.array, Arrays, Arrays], Any]
"""([rows, length] tokens, places that are looked at, place to write, offsets, keys, values) -> the likeliest tokens, logits, and
place, offsets, keys and values for the next step."""

MOST_TRACES = 256
"""Traces that are kept; one of a large model may take a megabyte."""


class RingCache:
    """One layer's keys and values while a step is traced; the place and the offsets are arrays."""

    def __init__(
        self, keys: mx.array, values: mx.array, places: mx.array, place: mx.array, offset: mx.array
    ) -> None:
        self.keys = keys
        self.values = values
        self.offset = offset
        """[rows] tokens that each row has already."""
        self._places = places
        self._place = place

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys = mx.slice_update(self.keys, keys, self._place, axes=(2,))
        self.values = mx.slice_update(self.values, values, self._place, axes=(2,))
        seen = self._places.shape[0]
        return self.keys[:, :, :seen], self.values[:, :, :seen]

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """[rows, 1, length, places] booleans; `return_array` is mlx-lm's, and true always."""
        del return_array
        if window_size is not None:
            raise NotImplementedError("only the whole past")
        later = mx.arange(length)[:, None]
        age = (self._place + later - self._places) % self.keys.shape[2]
        return (age[None] <= self.offset[:, None, None] + later)[:, None]


def compiled(model: Any) -> Replay:
    """The step of `model` as a function of arrays alone."""

    def step(
        tokens: mx.array, places: mx.array, place: mx.array, offset: mx.array, keys: Arrays, values: Arrays
    ) -> Any:
        layers = zip(keys, values, strict=True)
        caches = [RingCache(key, value, places, place, offset) for key, value in layers]
        logits = model(tokens, caches)
        length = tokens.shape[1]
        logits = logits[:, 0] if length == 1 else logits[0]
        place = (place + length) % keys[0].shape[2]
        written = [cache.keys for cache in caches], [cache.values for cache in caches]
        return likeliest(logits), logits, place, offset + length, *written

    return mx.compile(step)


class Steps:
    """The step of `model`, traced once for each shape, whichever batch has it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._forget()

    def _forget(self) -> None:
        self._replay = compiled(self._model)
        self._traced: set[tuple[int, ...]] = set()

    def __call__(
        self,
        tokens: mx.array,
        places: mx.array,
        place: mx.array,
        offset: mx.array,
        keys: Arrays,
        values: Arrays,
    ) -> Any:
        shape = (*tokens.shape, *places.shape, keys[0].shape[2])
        if shape not in self._traced and len(self._traced) >= MOST_TRACES:
            self._forget()
        self._traced.add(shape)
        return self._replay(tokens, places, place, offset, keys, values)
