"""Those functions of MLX whose types its stubs leave open, with types."""

from collections.abc import Callable
from typing import Any, cast

import mlx.core as mx

_untyped = cast("Any", mx)

evaluate: Callable[..., None] = _untyped.eval
"""Compute these arrays, and trees of arrays, and wait."""
start: Callable[[mx.array], None] = _untyped.async_eval
"""Compute this array; on a CPU this returns when little is left to do, on a GPU at once."""


def integer(array: mx.array) -> int:
    """The only number of an array of integers."""
    return cast("Any", array).item()


def integers(array: mx.array) -> list[int]:
    return cast("Any", array).tolist()


def floats(array: mx.array) -> list[float]:
    return cast("Any", array).tolist()
