"""The quicker attention for prompts gives what MLX's gives."""

import contextlib
from typing import Any

import mlx.core as mx
import pytest

from actors.engine import attention as quick

mlx: Any = mx.fast


def random_heads(rows: int, heads: int, length: int, width: int = 16) -> mx.array:
    return 2 * mx.random.normal((rows, heads, length, width))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("length", "past"), [(2, 0), (7, 0), (2, 300), (33, 64), (300, 1000)])
@pytest.mark.parametrize("block", [5000, quick.BLOCK])
def test_as_mlx(
    rows: int, groups: int, length: int, past: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "BLOCK", block)
    mx.random.seed(length + past)
    queries = random_heads(rows, 4, length)
    room = random_heads(rows, groups, past + length + 50), random_heads(rows, groups, past + length + 50)
    keys, values = (array[:, :, : past + length] for array in room)
    expected = mlx.scaled_dot_product_attention(queries, keys, values, scale=0.25, mask="causal")
    given = quick.attention(queries, keys, values, scale=0.25, mask="causal")
    assert given.shape == expected.shape
    assert mx.allclose(given, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_what_it_does_not_know_is_left_to_mlx(dtype: mx.Dtype) -> None:
    queries, keys = random_heads(1, 2, 5).astype(dtype), random_heads(1, 2, 9).astype(dtype)
    given = quick.attention(queries, keys, keys, scale=1.0, mask="causal")
    assert mx.array_equal(
        given, mlx.scaled_dot_product_attention(queries, keys, keys, scale=1.0, mask="causal")
    )


def test_masks_and_sinks_are_left_to_mlx() -> None:
    queries, keys = random_heads(1, 2, 5), random_heads(1, 2, 9)
    mask, sinks = mx.arange(9)[None] > mx.arange(5)[:, None], mx.array([1.0, 2.0])
    for more in ({"mask": mask}, {"mask": None}, {"mask": "causal", "sinks": sinks}):
        given = quick.attention(queries, keys, keys, scale=1.0, **more)
        assert mx.array_equal(given, mlx.scaled_dot_product_attention(queries, keys, keys, scale=1.0, **more))


def test_it_is_in_use_in_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "slow_exp", lambda: True)
    before = mlx.scaled_dot_product_attention
    with contextlib.suppress(ValueError), quick.quick_attention():
        assert mlx.scaled_dot_product_attention is quick.attention
        raise ValueError("the model's")
    assert mlx.scaled_dot_product_attention is before
