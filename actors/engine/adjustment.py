"""What changes logits before a draw: biases, penalties, tokens that must not come yet, a grammar."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from actors.engine.arrays import from_numpy
from actors.engine.row import Row

Table = NDArray[np.float32]


class Adjustment:
    """For rows of one group; in this order: bias, repetition, frequency, presence, what must not come at all."""

    def __init__(self, rows: Sequence[Row], vocabulary: int) -> None:
        self._rows = rows
        self._bias = _table(rows, vocabulary, _biases, _write_bias)
        self._banned = _table(rows, vocabulary, _bans, _write_banned)
        self._counts = _table(rows, vocabulary, _counts, _write_counts)
        self._seen = _table(rows, vocabulary, _repeats, _write_seen)
        self._presence = _column([row.sampling.presence_penalty for row in rows])
        self._frequency = _column([row.sampling.frequency_penalty for row in rows])
        self._repetition = _column([row.sampling.repetition_penalty for row in rows])
        self._ids = mx.arange(vocabulary)[None]

    @staticmethod
    def wanted(row: Row) -> bool:
        return row.constraint is not None or any(has(row) for has in (_biases, _bans, _counts, _repeats))

    def of(self, logits: mx.array) -> mx.array:
        """[rows, vocabulary] float32."""
        return self.barred(self.weighed(logits))

    def weighed(self, logits: mx.array) -> mx.array:
        """With biases and penalties; [rows, vocabulary] float32."""
        logits = logits.astype(mx.float32)
        if self._bias is not None:
            logits = logits + self._bias
        if self._seen is not None:
            repeated = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
            logits = mx.where(self._seen > 0, repeated, logits)
        if self._counts is not None:
            logits = logits - self._frequency * self._counts - self._presence * (self._counts > 0)
        return logits

    def barred(self, logits: mx.array) -> mx.array:
        """-inf for what must not come."""
        if self._banned is not None:
            early = mx.array([[row.drawn < row.min_tokens] for row in self._rows])
            logits = mx.where(early & (self._banned > 0), -mx.inf, logits)
        if any(row.constraint is not None for row in self._rows):
            logits = mx.where(self._allowed(logits.shape[-1]), logits, -mx.inf)
        return logits

    def _allowed(self, vocabulary: int) -> mx.array:
        """[rows, vocabulary] booleans, from the grammars."""
        allowed = np.ones((len(self._rows), vocabulary), np.bool_)
        for at, row in enumerate(self._rows):
            if row.constraint is not None:
                allowed[at] = np.unpackbits(row.allowed, bitorder="little", count=vocabulary)
        return from_numpy(allowed)

    def count(self, tokens: mx.array) -> None:
        """These [rows] tokens were drawn."""
        if self._counts is None and self._seen is None:
            return
        drawn = (tokens[:, None] == self._ids).astype(mx.float32)
        self._counts = None if self._counts is None else self._counts + drawn
        self._seen = None if self._seen is None else self._seen + drawn


def _table(
    rows: Sequence[Row], vocabulary: int, has: Callable[[Row], bool], write: Callable[[Row, Table], None]
) -> mx.array | None:
    """[rows, vocabulary] of what is written for the rows that have it; None when no row has."""
    if not any(has(row) for row in rows):
        return None
    table = np.zeros((len(rows), vocabulary), np.float32)
    for row, line in zip(rows, table, strict=True):
        if has(row):
            write(row, line)
    return mx.array(table)


def _biases(row: Row) -> bool:
    return bool(row.sampling.logit_bias)


def _write_bias(row: Row, line: Table) -> None:
    for token, bias in row.sampling.logit_bias:
        line[token] += bias


def _bans(row: Row) -> bool:
    return row.position < row.min_tokens


def _write_banned(row: Row, line: Table) -> None:
    line[[token for token in row.stop if 0 <= token < len(line)]] = 1


def _counts(row: Row) -> bool:
    return bool(row.sampling.presence_penalty or row.sampling.frequency_penalty)


def _write_counts(row: Row, line: Table) -> None:
    np.add.at(line, row.ids[row.prompt :], 1)


def _repeats(row: Row) -> bool:
    return row.sampling.repetition_penalty != 1


def _write_seen(row: Row, line: Table) -> None:
    line[row.ids] = 1


def _column(values: list[float]) -> mx.array:
    return mx.array(values, dtype=mx.float32)[:, None]
