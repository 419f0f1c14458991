"""A sigmoid of products and sums alone, for x86 CPUs: what MLX compiles of it takes 3 ns a number, with `exp` 20.

Each token of a llama takes the sigmoid of a number for each column of its feed-forward layers: in a model of 16M
parameters that is a tenth of a step, and a third of a prompt's time.
"""

from typing import Any

import mlx.core as mx

from actors.engine.slow_exp import slow_exp

# tanh(x) = x * P(x^2) / Q(x^2) to the last bits of float32, from the highest power down; Eigen's coefficients
P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
FLAT = 7.90531110763549805
"""Beyond it tanh is 1 in float32."""

_mlx: Any = mx
_of_mlx = _mlx.sigmoid


def use_quick_sigmoid() -> None:
    """From now on in this process, where it is quicker; call it before models are run."""
    if slow_exp():
        _mlx.sigmoid = sigmoid


def sigmoid(x: mx.array, **stream: Any) -> mx.array:
    """Within 3e-7 of MLX's for float32; for other types MLX's."""
    if x.dtype != mx.float32 or stream:
        return _of_mlx(x, **stream)
    half = mx.clip(0.5 * x, -FLAT, FLAT)
    square = half * half
    return 0.5 + 0.5 * half * _polynomial(P, square) / _polynomial(Q, square)


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value
