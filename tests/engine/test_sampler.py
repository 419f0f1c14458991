"""Draws that depend on seed, sequence and position alone."""

import math
from collections import Counter
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine.blas import load_fast_blas
from schemas.task import Sampling

with suppress(RuntimeError):  # another test has imported MLX before
    load_fast_blas()
import mlx.core as mx

from actors.engine.sampler import chooser, keep_top, mix

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]
LOGITS = mx.log(mx.array([PROBABILITIES]))


def draw(sampling: Sampling, position: int, index: int = 0) -> int:
    return cast("Any", chooser(sampling, index)(LOGITS, position)).item()


def kept(top_p: float) -> list[bool]:
    return cast("Any", keep_top(LOGITS, mx.array(top_p)) > -math.inf)[0].tolist()


@pytest.mark.parametrize(
    ("top_p", "count"), [(0.0, 1), (0.4, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4), (1.0, 4)]
)
def test_top_p_keeps_the_fewest_likeliest_that_have_it(top_p: float, count: int) -> None:
    assert kept(top_p) == [True] * count + [False] * (4 - count)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert {draw(Sampling(temperature=0, seed=seed), 0) for seed in range(20)} == {0}


def test_draws_follow_the_probabilities() -> None:
    drawn = Counter(draw(Sampling(seed=1), position) for position in range(2000))
    for token, probability in enumerate(PROBABILITIES):
        assert drawn[token] / 2000 == pytest.approx(probability, abs=0.04)


def test_sequences_of_one_request_differ() -> None:
    of = [[draw(Sampling(seed=1), position, index) for position in range(40)] for index in (0, 1)]
    assert of[0] != of[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 10**6), st.floats(0.01, 2), st.floats(0, 1))
def test_equal_values_draw_equal_tokens(seed: int, position: int, temperature: float, top_p: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    assert draw(sampling, position) == draw(sampling, position)


@given(st.integers(0, 2**64 - 1))
def test_mixing_is_of_64_bits_and_moves_neighbours_apart(number: int) -> None:
    assert 0 <= mix(number) < 2**64
    assert (mix(number) ^ mix((number + 1) % 2**64)).bit_count() > 8
