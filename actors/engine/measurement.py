"""How fast the engine's device is: what placement predicts speeds from."""

import time
from collections.abc import Callable

import mlx.core as mx
from msgspec import Struct

SQUARE = 768
"""Rows and columns of the matrices of a product: 0.9 GFLOP, some milliseconds on a CPU."""
READ_ROWS, READ_COLUMNS = 2048, 4096
"""Of a float32 matrix of 32 MiB: more than most caches hold."""
REPEATS = 4


class Speed(Struct, frozen=True):
    """The best of some tries."""

    flop_s: float
    """Floating-point operations a second in a product of float32 matrices."""
    read_bytes_s: float
    """Bytes of weights a second in a product of a matrix and a vector."""


def measure_speed() -> Speed:
    """On MLX's default device; takes about a tenth of a second."""
    left, right = mx.random.normal((SQUARE, SQUARE)), mx.random.normal((SQUARE, SQUARE))
    matrix, vector = mx.random.normal((READ_ROWS, READ_COLUMNS)), mx.random.normal((READ_COLUMNS,))
    _evaluate(left, right, matrix, vector)
    return Speed(
        flop_s=2 * SQUARE**3 / _fastest_s(lambda: left @ right),
        read_bytes_s=matrix.nbytes / _fastest_s(lambda: matrix @ vector),
    )


def _fastest_s(compute: Callable[[], mx.array]) -> float:
    seconds: list[float] = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        _evaluate(compute())
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _evaluate(*arrays: mx.array) -> None:
    mx.eval(*arrays)  # pyright: ignore[reportUnknownMemberType]  # untyped in mlx
