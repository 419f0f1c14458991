"""One step of decoding, plain or compiled.

The plain step calls the model as mlx-lm does. The compiled one is traced once for each size of the cache and then
replayed without Python: 1.1 to 1.6 times as fast on a CPU, where small models are all overhead. It holds for
models whose layers all have plain key-value caches; `usable` tries that out and compares.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlx.core as mx

GROWTH = 256
"""Positions that a cache grows by, as mlx-lm's."""
TRIAL_IDS = 6
TOLERANCE = 1e-3
UNTRACEABLE = (ValueError, TypeError, AttributeError, RuntimeError, IndexError, NotImplementedError)

Arrays = list[mx.array]
Replay = Callable[[mx.array, mx.array, Arrays, Arrays], tuple[mx.array, mx.array, Arrays, Arrays]]


class Step(Protocol):
    """Takes the [1] token at the next position to the [1, vocabulary] logits after it; lazy."""

    def __call__(self, token: mx.array) -> mx.array: ...


class PlainStep:
    """As mlx-lm decodes."""

    def __init__(self, model: Any, cache: Sequence[Any]) -> None:
        self._model = model
        self._cache = cache

    def __call__(self, token: mx.array) -> mx.array:
        return self._model(token[None], self._cache)[:, -1, :]


class FixedCache:
    """A layer's keys and values in arrays of one size, where the offset is an array too: fit to be traced."""

    def __init__(self, keys: mx.array, values: mx.array, offset: mx.array) -> None:
        self.keys = keys
        self.values = values
        self.offset = offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys = mx.slice_update(self.keys, keys, self.offset, axes=(2,))
        self.values = mx.slice_update(self.values, values, self.offset, axes=(2,))
        self.offset = self.offset + keys.shape[2]
        return self.keys, self.values

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> mx.array:
        """[1, capacity] booleans; `return_array` is mlx-lm's, and true always."""
        del return_array
        if length != 1 or window_size is not None:
            raise NotImplementedError("only one token at a time over the whole past")
        return (mx.arange(self.keys.shape[2]) <= self.offset)[None]


def compiled(model: Any) -> Replay:
    """The step of `model` as a function of arrays alone."""

    def step(token: mx.array, offset: mx.array, keys: Arrays, values: Arrays) -> Any:
        caches = [FixedCache(key, value, offset) for key, value in zip(keys, values, strict=True)]
        logits = model(token[None], caches)[:, -1, :]
        return logits, caches[0].offset, [cache.keys for cache in caches], [cache.values for cache in caches]

    return mx.compile(step)


class CompiledStep:
    """Replays a compiled step, from where a prefilled `cache` of mlx-lm ends."""

    def __init__(self, replay: Replay, cache: Sequence[Any]) -> None:
        self._replay = replay
        self._keys: Arrays = [layer.keys for layer in cache]
        self._values: Arrays = [layer.values for layer in cache]
        self._position: int = cache[0].offset
        self._capacity = self._keys[0].shape[2]
        self._offset = mx.array([self._position])

    def __call__(self, token: mx.array) -> mx.array:
        if self._position >= self._capacity:
            self._grow()
        self._position += 1
        logits, self._offset, self._keys, self._values = self._replay(
            token, self._offset, self._keys, self._values
        )
        return logits

    def _grow(self) -> None:
        self._keys = [_longer(keys) for keys in self._keys]
        self._values = [_longer(values) for values in self._values]
        self._capacity += GROWTH


def _longer(layer: mx.array) -> mx.array:
    batch, heads, _, width = layer.shape
    return mx.concatenate([layer, mx.zeros((batch, heads, GROWTH, width), layer.dtype)], axis=2)


def usable(model: Any, make_cache: Callable[[], Sequence[Any]], replay: Replay) -> bool:
    """Whether the compiled step gives the logits of the plain one."""
    if any(type(layer).__name__ != "KVCache" for layer in make_cache()):
        return False
    ids = mx.arange(1, TRIAL_IDS + 1)
    try:
        plain = _trial(model, make_cache(), ids, lambda cache: PlainStep(model, cache))
        fast = _trial(model, make_cache(), ids, lambda cache: CompiledStep(replay, cache))
        difference = mx.max(mx.abs(plain - fast))
        return bool((difference <= TOLERANCE * mx.max(mx.abs(plain))).item())
    except UNTRACEABLE:
        return False


def _trial(
    model: Any, cache: Sequence[Any], ids: mx.array, begin: Callable[[Sequence[Any]], Step]
) -> mx.array:
    """[steps, vocabulary] logits after the first half of `ids` and each further one."""
    half = TRIAL_IDS // 2
    first = model(ids[None, :half], cache)[:, -1, :]
    step = begin(cache)
    return mx.concatenate([first, *(step(ids[at : at + 1]) for at in range(half, TRIAL_IDS))])
