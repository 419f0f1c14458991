"""The sigmoid without `exp` is MLX's, but for the last bits."""

import mlx.core as mx
import pytest

from actors.engine.quick_sigmoid import sigmoid


def exact(x: mx.array) -> mx.array:
    """Not `mx.sigmoid`, which may be the quick one by now."""
    return 1 / (1 + mx.exp(-x))


@pytest.mark.parametrize("widest", [1.0, 10.0, 100.0, 1e30])
def test_as_mlx(widest: float) -> None:
    x = widest * mx.linspace(-1, 1, 100_001)
    for own in (sigmoid, mx.compile(sigmoid)):
        given = own(x)
        assert mx.allclose(given, exact(x), rtol=0, atol=3e-7)
        assert mx.all((given >= 0) & (given <= 1))


def test_infinities_and_what_is_no_number() -> None:
    assert sigmoid(mx.array([float("-inf"), float("inf")])).tolist() == pytest.approx([0, 1], abs=1e-7)
    assert mx.isnan(sigmoid(mx.array([float("nan")]))).item()


def test_half_precision_is_left_to_mlx() -> None:
    x = mx.linspace(-9, 9, 1000).astype(mx.bfloat16)
    assert sigmoid(x).dtype == mx.bfloat16
    assert mx.allclose(sigmoid(x), exact(x), rtol=0, atol=0.01)
