"""A rank that computes its part and talks to nobody: what is left of a step when it need not communicate. Its answers are
nonsense."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from actors.engine import mlx_engine
from actors.engine.arrays import evaluate
from actors.engine.group import Group
from schemas.group import Seat


class Nobody:
    """A group of MLX that has a size and nothing else."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    def rank(self) -> int:
        return self._seat.rank

    def size(self) -> int:
        return self._seat.size


class Alone(Group):
    """Agrees with itself."""

    def agree(self, arrays: Sequence[mx.array], behind: mx.array) -> list[mx.array]:
        evaluate(behind)
        return list(arrays)

    def least(self, numbers: Sequence[int]) -> list[int]:
        return list(numbers)


def silence(seat: Seat) -> None:
    """From now on this process is in no group, and believes that it is in this one."""
    kept: Any = mx.distributed
    kept.all_sum = lambda array, group=None: array
    kept.send = lambda array, to, group=None: array
    kept.recv_like = lambda array, source, group=None: array
    nobody: Any = Nobody(seat)
    mlx_engine.form = lambda _: Alone(seat, nobody)  # type: ignore[misc]
