"""How fast the engine's device is: what placement predicts speeds from."""

import time
from collections.abc import Callable, Sequence

import mlx.core as mx

from actors.engine.arrays import evaluate
from actors.engine.attention import quick_attention
from actors.engine.speed import Speed
from actors.machine.memory import read_memory

ROWS, WIDTH, COLUMNS = 512, 768, 3072
"""Of a product as a prompt asks for it."""
READ_ROWS, READ_COLUMNS = 2048, 1024
"""Of a float32 matrix of 8 MiB; longer rows are read faster from memory, and shorter ones more slowly, by a tenth."""
NEAR, FAR = 4, 64
"""Such matrices: as much as caches may hold, and more than they do."""
FAR_SHARE = 16
"""Of the memory that is free, no more than this part is gone through: one sixteenth."""
LAYERS, NARROW = 16, 64
"""Layers whose matrices are nearly nothing."""
HEADS, ASKING, BEHIND, HEAD = 8, 128, 512, 64
"""Of the attention of a part of a prompt."""
REPEATS = 4


def measure_speed() -> Speed:
    """On MLX's default device; takes about half a second."""
    near_s, far = _fastest_s(_reading(NEAR)), far_matrices()
    return Speed(
        flop_s=2 * ROWS * WIDTH * COLUMNS / _fastest_s(_product()),
        read_bytes_s=NEAR * _matrix_bytes() / near_s,
        far_read_bytes_s=far * _matrix_bytes() / _fastest_s(_reading(far), 2),
        layer_s=_fastest_s(_layers()) / LAYERS,
        score_s=_fastest_s(_attention()) / (HEADS * ASKING * BEHIND),
    )


def far_matrices() -> int:
    """As many as there is memory for."""
    return max(NEAR, min(FAR, read_memory().free_bytes // FAR_SHARE // _matrix_bytes()))


Compute = Callable[[], Sequence[mx.array]]


def _matrix_bytes() -> int:
    return 4 * READ_ROWS * READ_COLUMNS


def _reading(count: int) -> Compute:
    matrices = [mx.full((READ_ROWS, READ_COLUMNS), 0.5) for _ in range(count)]
    row = mx.ones((1, READ_COLUMNS))
    evaluate(matrices, row)
    return lambda: [row @ matrix.T for matrix in matrices]


def _product() -> Compute:
    rows, matrix = mx.random.normal((ROWS, WIDTH)), mx.random.normal((COLUMNS, WIDTH))
    evaluate(rows, matrix)
    return lambda: [rows @ matrix.T]


def _attention() -> Compute:
    queries, keys = mx.random.normal((1, HEADS, ASKING, HEAD)), mx.random.normal((1, HEADS, BEHIND, HEAD))
    evaluate(queries, keys)

    def attend() -> list[mx.array]:
        with quick_attention():
            return [mx.fast.scaled_dot_product_attention(queries, keys, keys, scale=0.1, mask="causal")]

    return attend


def _layers() -> Compute:
    """One after the other, each with the operations of a llama's."""
    matrix, ones = mx.random.normal((NARROW, NARROW)), mx.ones((NARROW,))
    before, first = mx.ones((1, 1, 8, NARROW)), mx.zeros((1, 1, 1, NARROW))
    evaluate(matrix, ones, before, first)

    def layer(hidden: mx.array) -> mx.array:
        normed = mx.fast.rms_norm(hidden, ones, 1e-5)
        queries, keys, values = (normed @ matrix for _ in range(3))
        queries, keys = (
            mx.fast.rope(each, NARROW, traditional=False, base=1e4, scale=1.0, offset=8)
            for each in (queries, keys)
        )
        keys, values = (mx.concatenate([before, each], axis=2) for each in (keys, values))
        hidden = hidden + mx.fast.scaled_dot_product_attention(queries, keys, values, scale=1.0) @ matrix
        gate = mx.fast.rms_norm(hidden, ones, 1e-5) @ matrix
        return hidden + (gate * mx.sigmoid(gate) * (gate @ matrix)) @ matrix

    def all_layers() -> list[mx.array]:
        hidden = first
        for _ in range(LAYERS):
            hidden = layer(hidden)
        return [hidden]

    return all_layers


def _fastest_s(compute: Compute, repeats: int = REPEATS) -> float:
    seconds: list[float] = []
    evaluate(compute())
    for _ in range(repeats):
        begun = time.perf_counter()
        evaluate(compute())
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
