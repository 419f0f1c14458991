"""Attention of a chunk of prompt on an x86 CPU, where MLX's own spends most of its time on `exp`.

MLX's wheel is made for any x86 processor: its `exp` calls the C library's `fma` six times, 16 ns a number. NumPy has
kernels for the processor that it finds, 0.5 ns a number: behind 16k tokens a chunk takes a fifth of the time.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from actors.engine.arrays import evaluate, from_numpy, in_place
from actors.engine.pausable import pause
from actors.engine.slow_exp import slow_exp

BLOCK = 1 << 21
"""Weights that are computed at once, of all heads; with fewer the keys are read from memory too often."""

_fast: Any = mx.fast
_of_mlx = _fast.scaled_dot_product_attention


@contextmanager
def quick_attention() -> Generator[None]:
    """While the block runs, a model that is given several tokens of a row attends faster, not lazily, and may pause."""
    _fast.scaled_dot_product_attention = attention if slow_exp() else pausing
    try:
        yield
    finally:
        _fast.scaled_dot_product_attention = _of_mlx


def pausing(queries: mx.array, keys: mx.array, values: mx.array, **more: Any) -> mx.array:
    """MLX's, with a pause before it."""
    pause(queries, keys, values)
    return _of_mlx(queries, keys, values, **more)


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    **more: Any,
) -> mx.array:
    """What MLX's gives, for [rows, heads, length, width] float32 queries and keys and values of as many heads or fewer."""
    usual = isinstance(mask, str) and queries.shape[2] > 1 and queries.dtype == mx.float32
    if not usual or any(given is not None for given in more.values()):
        return pausing(queries, keys, values, scale=scale, mask=mask, **more)
    rows, heads, length, _ = queries.shape
    before = keys.shape[2] - length
    several = max(1, BLOCK // (rows * heads * keys.shape[2]))
    parts = [
        _attended(queries[:, :, at:end] * scale, keys[:, :, : before + end], values[:, :, : before + end])
        for at, end in ((at, min(at + several, length)) for at in range(0, length, several))
    ]
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)


def _attended(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """The last of `queries` looks at all keys, the one before at all but the last, and so on."""
    rows, heads, length, width = queries.shape
    folded = mx.reshape(queries, (rows, keys.shape[1], -1, width))
    weights = folded @ keys.swapaxes(-1, -2)
    evaluate(weights)
    sums = _exponentiate(in_place(weights).reshape(rows, heads, length, -1))
    attended = mx.reshape(weights @ values, (rows, heads, length, -1)) / from_numpy(sums)
    evaluate(attended)
    del folded, weights  # their memory is free while others go on
    pause()
    return attended


def _exponentiate(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """exp(weights - the largest of each row), in their place; the sums of the rows."""
    length = weights.shape[2]
    weights[..., -length:][..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    weights -= weights.max(-1, keepdims=True)
    np.exp(weights, out=weights)
    return weights.sum(-1, keepdims=True)
