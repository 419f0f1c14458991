"""Durations: exact in number and sum, and a median to the next of twelve steps a decade."""

from statistics import median_low

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.accounts.durations import BOUNDS, Durations, add_to

seconds = st.floats(0, 2000, allow_nan=False)


def durations_of(several: list[float]) -> Durations:
    durations = Durations()
    for each in several:
        durations.add(each)
    return durations


@given(st.lists(seconds, min_size=1))
def test_count_sum_and_longest_are_exact(several: list[float]) -> None:
    durations = durations_of(several)
    assert durations.count == len(several)
    assert durations.total_s == pytest.approx(sum(several))
    assert durations.longest_s == max(several)


@given(st.lists(st.floats(BOUNDS[0], BOUNDS[-1]), min_size=1))
def test_the_median_is_at_most_a_step_above_the_true_one(several: list[float]) -> None:
    found, true = durations_of(several).median_s, median_low(several)
    assert found is not None
    assert true <= found <= true * 1.3


def test_what_nobody_measured_has_no_median() -> None:
    assert Durations().median_s is None
    assert Durations().mean_s is None


def test_tokens_that_come_together_share_their_time() -> None:
    durations = Durations()
    durations.add(1.0, 4)
    assert (durations.count, durations.mean_s, durations.longest_s) == (4, 0.25, 1.0)
    assert durations.median_s == 0.27


@given(st.lists(seconds))
def test_shown_buckets_grow_and_hold_all_that_is_not_longer(several: list[float]) -> None:
    shown = durations_of(several).buckets()
    assert shown[-1] == ("+Inf", len(several))
    for end, count in shown[:-1]:
        assert count == sum(each <= float(end) for each in several)


@given(st.lists(seconds), st.lists(seconds))
def test_parts_add_up(some: list[float], others: list[float]) -> None:
    whole, part = durations_of(some), durations_of(others)
    add_to(whole, part)
    assert whole.buckets() == durations_of(some + others).buckets()
    assert part.buckets() == durations_of(others).buckets()
