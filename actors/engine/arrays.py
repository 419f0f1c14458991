"""Those functions of MLX whose types its stubs leave open, with types."""

from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

_untyped = cast("Any", mx)

evaluate: Callable[..., None] = _untyped.eval
"""Compute these arrays, and trees of arrays, and wait."""
start: Callable[[mx.array], None] = _untyped.async_eval
"""Compute this array; on a CPU this returns when little is left to do, on a GPU at once."""
from_numpy: Callable[[NDArray[Any]], mx.array] = _untyped.array
after: Callable[[mx.array, mx.array], mx.array] = _untyped.depends
"""The first, computed when the second is."""
vmap: Callable[[Callable[[mx.array], mx.array]], Callable[[mx.array], mx.array]] = _untyped.vmap


def integers(array: mx.array) -> list[int]:
    return cast("Any", array).tolist()


def lines(array: mx.array) -> list[list[Any]]:
    """The numbers of an array of two dimensions."""
    return cast("Any", array).tolist()


def floats(array: mx.array) -> list[float]:
    return cast("Any", array).tolist()


def in_place(array: mx.array) -> NDArray[np.float32]:
    """The numbers of an evaluated float32 array themselves: what is written there, the array has from then on."""
    return np.array(cast("Any", array), copy=False)
