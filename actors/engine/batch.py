"""What all batches have in common: the caches of rows that decode together."""

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx

Cache = Sequence[Any]
"""One of mlx-lm's caches for each layer, of one row."""


class Batch(Protocol):
    """The caches of rows that decode together, by their seats."""

    @property
    def reseats(self) -> bool:
        """Whether a seat that is left can be taken by another row."""
        ...

    @property
    def seats(self) -> int: ...

    def another(self) -> "Batch":
        """An empty one for rows of the same model."""
        ...

    def add(self, caches: Sequence[Cache]) -> None:
        """New seats behind the others; the same cache may come several times."""
        ...

    def put(self, seat: int, cache: Cache) -> None:
        """Another row in a seat that was left."""
        ...

    def keep(self, seats: Sequence[int]) -> None:
        """Only these seats, which move together."""
        ...

    def copy(self, sources: Sequence[int], targets: Sequence[int], tokens: int) -> None:
        """The rows in `targets` become those in `sources`, other seats, from which their last `tokens` alone differ."""
        ...

    def leave(self, seat: int) -> None:
        """Nobody listens to this seat any more; it stays until it is put or not kept."""
        ...

    def step(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """[seats] likeliest next tokens and [seats, vocabulary] logits after [seats] tokens; lazy."""
        ...

    def score(self, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """The same after each of several [tokens] of the only row; for plain key-value caches."""
        ...

    def rewind(self, tokens: int) -> None:
        """Forget so many of the only row's latest tokens; for plain key-value caches."""
        ...

    def extract(self, seat: int) -> Cache:
        """A copy of one row's cache."""
        ...

    @property
    def nbytes(self) -> int: ...
