"""Strict lanes with ageing, as pure turns."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bus.lane_order import TURN, LaneOrder
from schemas.task import LANES, Lane


def served(order: LaneOrder, waiting: "Counter[Lane]") -> Lane | None:
    """Who is served next; takes one task out of `waiting`."""
    for lane in order.lanes():
        found = waiting[lane] > 0
        order.note(lane, found=found)
        if found:
            waiting[lane] -= 1
            return lane
    return None


def test_the_most_urgent_lane_goes_first() -> None:
    order, waiting = LaneOrder(), Counter[Lane]({"high": 3, "normal": 2, "batch": 1})
    assert [served(order, waiting) for _ in range(7)] == ["high"] * 3 + ["normal"] * 2 + ["batch", None]


def test_a_lane_that_waits_has_its_turn() -> None:
    order, waiting = LaneOrder(), Counter[Lane]({"high": 10_000, "batch": 10_000})
    turns = Counter(served(order, waiting) for _ in range(90))
    assert turns == {"high": 80, "batch": 10}


@given(st.fixed_dictionaries({lane: st.integers(0, 200) for lane in LANES}))
def test_nobody_waits_longer_than_his_turn(tasks: dict[Lane, int]) -> None:
    order, waiting = LaneOrder(), Counter(tasks)
    passed: Counter[Lane] = Counter()
    while (lane := served(order, waiting)) is not None:
        passed[lane] = 0
        for other in LANES[LANES.index(lane) + 1 :]:
            passed[other] = passed[other] + 1 if waiting[other] else 0
            assert passed[other] <= 2 * TURN
    assert not waiting.total()
