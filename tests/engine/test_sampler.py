"""Draws that depend on seed, sequence and position alone, and follow the mathematics of their parameters."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.engine.blas import load_fast_blas

with suppress(RuntimeError):  # another test has imported MLX before
    load_fast_blas()
import mlx.core as mx

from actors.engine.answer import Answer
from actors.engine.keys import keys_of, mix, stream_of
from actors.engine.row import Row
from actors.engine.sampler import Sampler, likeliest
from tests.engine.running import a_task

VOCABULARY = 40
Line = NDArray[np.float64]


def a_row(ids: list[int] | None = None, prompt: int = 3, index: int = 0, **values: Any) -> Row:
    task = a_task([1] * prompt, n=index + 1, max_tokens=100, **values)
    answer = Answer(task, prompt)
    ids = ids or [1] * prompt
    answer.counts[index] = len(ids) - prompt
    return Row(answer, index, ids)


def reference(logits: Line, row: Row) -> Line:
    """Probabilities of the next token, step by step as `Sampling` describes them; one token has all when greedy."""
    sampling, logits = row.sampling, logits.astype(np.float64).copy()
    for token, bias in sampling.logit_bias:
        logits[token] += bias
    for token in set(row.ids):
        logits[token] *= 1 / sampling.repetition_penalty if logits[token] > 0 else sampling.repetition_penalty
    answer = row.ids[row.prompt :]
    for token in set(answer):
        logits[token] -= sampling.frequency_penalty * answer.count(token) + sampling.presence_penalty
    if len(answer) < row.min_tokens:
        logits[list(row.stop)] = -np.inf
    if sampling.temperature == 0:
        return np.eye(len(logits))[np.argmax(logits)]
    order = list(np.argsort(-logits / sampling.temperature))
    order = order[: sampling.top_k or len(order)]
    chances = softmax(logits[order] / sampling.temperature)
    before = np.cumsum(chances) - chances
    left = [token for token, mass in zip(order, before, strict=True) if mass < sampling.top_p] or order[:1]
    highest = max(chances)
    left = [token for token in left if chances[order.index(token)] >= sampling.min_p * highest]
    probabilities = np.zeros(len(logits))
    probabilities[left] = softmax(logits[left] / sampling.temperature)
    return probabilities


def softmax(values: Line) -> Line:
    powers = np.exp(values - np.max(values))
    return powers / powers.sum()


def some_logits(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 2, (rows, VOCABULARY)).astype(np.float32)


def draw(rows: list[Row | None], logits: NDArray[np.float32]) -> list[int]:
    array = mx.array(logits)
    drawn: Any = Sampler(rows, VOCABULARY).draw(array, likeliest(array))
    return drawn.tolist()


ANSWERED = [1, 2, 3, 7, 7, 9, 11]
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 1.7, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 1.2, "min_p": 0.2},
    {"temperature": 0.9, "top_k": 12, "top_p": 0.7, "min_p": 0.05},
    {"temperature": 1.0, "logit_bias": ((4, 3.0), (7, -2.0), (39, 100.0))},
    {"temperature": 1.0, "presence_penalty": 1.5},
    {"temperature": 1.0, "frequency_penalty": 1.1, "top_p": 0.8},
    {"temperature": 1.0, "repetition_penalty": 1.8, "presence_penalty": -0.7},
    {"temperature": 0.0, "repetition_penalty": 0.4},
    {"temperature": 1.0, "min_tokens": 5, "stop_ids": (8, 20, 99)},
    {"temperature": 1.0, "min_tokens": 4, "stop_ids": (8, 20, 99)},
]


@pytest.mark.parametrize("values", PARAMETERS, ids=str)
def test_draws_follow_the_reference(values: dict[str, Any]) -> None:
    """4,000 draws in one batch, each row with its own seed."""
    count = 4000
    known: dict[str, Any] = {}
    if "stop_ids" in values:
        known["stop_ids"] = tuple(token for token in values["stop_ids"] if token < VOCABULARY)
    logits = some_logits(1, seed=3)
    expected = reference(logits[0], a_row(list(ANSWERED), **values | known))
    rows = [a_row(list(ANSWERED), **values, seed=seed) for seed in range(count)]
    drawn = np.bincount(draw([*rows], np.repeat(logits, count, axis=0)), minlength=VOCABULARY)
    assert set(np.flatnonzero(drawn)) <= set(np.flatnonzero(expected))
    assert np.abs(drawn / count - expected).max() < 4.5 * 0.5 / count**0.5


@pytest.mark.parametrize("seats", [1, 2, 13])
def test_a_row_draws_the_same_alone_and_beside_others(seats: int) -> None:
    logits = some_logits(len(PARAMETERS))
    rows = [a_row(list(ANSWERED), **values, seed=seed) for seed, values in enumerate(PARAMETERS)]
    alone = [draw([row], logits[at : at + 1])[0] for at, row in enumerate(rows)]
    together: list[int] = []
    for begin in range(0, len(rows), seats):
        together += draw([*rows[begin : begin + seats]], logits[begin : begin + seats])
    assert together == alone


def test_empty_seats_disturb_nobody() -> None:
    logits = some_logits(4)
    rows = [a_row(temperature=1.0, seed=1), a_row(temperature=0.8, top_k=3, seed=2)]
    alone = draw([rows[0]], logits[1:2]), draw([rows[1]], logits[3:4])
    together = draw([None, rows[0], None, rows[1]], logits)
    assert ([together[1]], [together[3]]) == alone


def test_counts_follow_what_is_drawn() -> None:
    """The same sampler draws again and again: each draw is penalised as if its counts were made anew."""
    logits = some_logits(2, seed=5)
    rows = [a_row(temperature=0.0, frequency_penalty=0.7), a_row(temperature=0.0, repetition_penalty=1.4)]
    array = mx.array(logits)
    sampler = Sampler(rows, VOCABULARY)
    for _ in range(12):
        drawn: Any = sampler.draw(array, likeliest(array))
        expected = [int(np.argmax(reference(line, row))) for line, row in zip(logits, rows, strict=True)]
        assert drawn.tolist() == expected
        for row, token in zip(rows, expected, strict=True):
            row.take(token, None)
            row.drawn += 1


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("values", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}], ids=str)
def test_logits_that_are_not_finite_are_told_and_hurt_nobody_else(
    broken: float, values: dict[str, Any]
) -> None:
    logits = some_logits(2)
    rows = [a_row(**values, seed=1), a_row(**values, seed=2)]
    healthy = draw([*rows], logits)[1]
    logits[0, 17] = broken
    assert draw([*rows], logits) == [VOCABULARY, healthy]


def test_sequences_of_one_request_differ() -> None:
    logits = np.zeros((40, VOCABULARY), np.float32)
    drawn: list[list[int]] = []
    for index in (0, 1):
        rows = [a_row([1] * (3 + made), index=index, temperature=1.0, seed=1) for made in range(40)]
        drawn.append(draw([*rows], logits))
    assert drawn[0] != drawn[1] and len(set(drawn[0])) > 5


@settings(max_examples=30, deadline=None)
@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 10**6), st.floats(0.01, 2), st.floats(0, 1))
def test_equal_values_draw_equal_tokens(seed: int, position: int, temperature: float, top_p: float) -> None:
    row = a_row(temperature=temperature, top_p=top_p, seed=seed)
    row.drawn = position
    logits = some_logits(1)
    assert draw([row], logits) == draw([row], logits)


def test_a_key_is_made_of_its_own_stream_and_position_alone() -> None:
    draws = [
        (stream_of(seed, index), position)
        for seed in (0, -1, 2**64 - 1)
        for index in (0, 1)
        for position in (0, 9)
    ]
    keys: Any = keys_of(draws)
    assert keys.tolist() == [keys_of([each]).tolist()[0] for each in draws]  # type: ignore[attr-defined]
    assert len({tuple(each) for each in keys.tolist()}) == 8  # seeds -1 and 2^64 - 1 are the same 64 bits


@given(st.integers(0, 2**64 - 1))
def test_mixing_is_of_64_bits_and_moves_neighbours_apart(number: int) -> None:
    assert 0 <= mix(number) < 2**64
    assert (mix(number) ^ mix((number + 1) % 2**64)).bit_count() > 8
