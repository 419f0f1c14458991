"""What changes logits before a draw: biases, penalties, tokens that must not come yet, a grammar."""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from actors.engine.arrays import from_numpy
from actors.engine.row import Row
from schemas.task import Sampling

Table = NDArray[np.float32]


class Adjustment:
    """For rows of one group; in this order: bias, repetition, frequency, presence, what must not come at all."""

    def __init__(self, rows: Sequence[Row], vocabulary: int) -> None:
        self._rows = rows
        self._bias = _table(rows, vocabulary, _write_bias)
        self._banned = _table(rows, vocabulary, _write_banned)
        self._counts = _table(rows, vocabulary, _write_counts)
        self._seen = _table(rows, vocabulary, _write_seen)
        self._presence = _column([row.sampling.presence_penalty for row in rows])
        self._frequency = _column([row.sampling.frequency_penalty for row in rows])
        self._repetition = _column([row.sampling.repetition_penalty for row in rows])
        self._ids = mx.arange(vocabulary)[None]

    @staticmethod
    def wanted(row: Row) -> bool:
        sampling = row.sampling
        return bool(
            sampling.logit_bias
            or row.constraint is not None
            or row.position < row.min_tokens
            or _counts_answer(sampling)
            or sampling.repetition_penalty != 1
        )

    def of(self, logits: mx.array) -> mx.array:
        """[rows, vocabulary] float32."""
        logits = logits.astype(mx.float32)
        if self._bias is not None:
            logits = logits + self._bias
        if self._seen is not None:
            repeated = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
            logits = mx.where(self._seen > 0, repeated, logits)
        if self._counts is not None:
            logits = logits - self._frequency * self._counts - self._presence * (self._counts > 0)
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


def _table(rows: Sequence[Row], vocabulary: int, write: Callable[[Row, Table], bool]) -> mx.array | None:
    """[rows, vocabulary] of what `write` puts in each row; None when no row has any of it."""
    table = np.zeros((len(rows), vocabulary), np.float32)
    has_any = False
    for row, line in zip(rows, table, strict=True):
        has_any |= write(row, line)
    return mx.array(table) if has_any else None


def _write_bias(row: Row, line: Table) -> bool:
    for token, bias in row.sampling.logit_bias:
        line[token] += bias
    return bool(row.sampling.logit_bias)


def _write_banned(row: Row, line: Table) -> bool:
    line[[token for token in row.stop if token < len(line)]] = 1
    return row.position < row.min_tokens


def _write_counts(row: Row, line: Table) -> bool:
    answer = row.ids[row.prompt :]
    if _counts_answer(row.sampling) and answer:
        line += np.bincount(answer, minlength=len(line))
    return _counts_answer(row.sampling)


def _write_seen(row: Row, line: Table) -> bool:
    line[row.ids] = 1
    return row.sampling.repetition_penalty != 1


def _counts_answer(sampling: Sampling) -> bool:
    return bool(sampling.presence_penalty or sampling.frequency_penalty)


def _column(values: list[float]) -> mx.array:
    return mx.array(values, dtype=mx.float32)[:, None]
