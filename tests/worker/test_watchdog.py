"""What pulses tell of a runner."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.worker.watchdog import Patience, Watchdog, Watched, judge
from schemas.ids import InstanceId
from schemas.node import Pulse

PATIENCE = Patience(start_s=20, load_s=300, silence_s=5, step_s=30, times_slowest=10, times_working=4)


def a_pulse(**values: Any) -> Pulse:
    given = {"steps": 9, "step_age_s": 0.0, "step_cpu_s": 0.0, "slowest_step_s": 0.5}
    return Pulse(instance=InstanceId("i1"), attempt=1, **(given | values))


def health_after(
    *pulses: tuple[float, Pulse], now: float | None = None, patience: Patience = PATIENCE
) -> str:
    watchdog = Watchdog(patience, now=0.0)
    for at, pulse in pulses:
        watchdog.hear(pulse, at)
    return watchdog.health(pulses[-1][0] if now is None else now)


def test_idle_and_short_steps_are_healthy() -> None:
    assert health_after((1, a_pulse()), (2, a_pulse(step_age_s=0.9, step_cpu_s=0.9))) == "healthy"


def test_a_long_step_that_uses_the_processor_is_slow() -> None:
    pulses = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=at / 2)) for at in range(1, 40)]
    assert health_after(*pulses) == "slow"


def test_a_long_step_that_does_not_is_stuck() -> None:
    pulses = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=2 + at / 100)) for at in range(1, 40)]
    assert health_after(*pulses[:28]) == "healthy"
    assert health_after(*pulses) == "stuck"


def test_one_that_worked_a_moment_ago_is_slow_still() -> None:
    working = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=float(at))) for at in range(1, 32)]
    resting = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=31.0)) for at in range(32, 40)]
    assert health_after(*working, *resting[:4]) == "slow"
    assert health_after(*working, *resting) == "stuck"


def test_no_step_may_work_for_ever() -> None:
    pulses = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=float(at))) for at in range(1, 123)]
    assert health_after(*pulses) == "stuck"


def test_steps_that_were_long_before_may_be_long_again() -> None:
    pulse = a_pulse(step_age_s=80.0, slowest_step_s=9.0)
    assert health_after((1, a_pulse(step_age_s=70.0, slowest_step_s=9.0)), (20, pulse)) == "healthy"


def test_loading_has_a_deadline_of_its_own() -> None:
    loading = [
        (float(at), a_pulse(steps=0, step_age_s=float(at), slowest_step_s=0.0)) for at in range(1, 310)
    ]
    assert health_after(*loading[:299]) == "healthy"
    assert health_after(*loading) == "stuck"


def test_silence_is_frozen() -> None:
    assert health_after((1, a_pulse()), now=5.5) == "healthy"
    assert health_after((1, a_pulse()), now=6.5) == "frozen"


def test_a_rank_may_be_silent_for_as_long_only_while_it_loads() -> None:
    patience = Patience(silence_s=10).of_group()
    assert health_after((1, a_pulse(steps=0)), now=10.5, patience=patience) == "healthy"
    assert health_after((1, a_pulse()), now=6.5, patience=patience) == "frozen"


def test_a_rank_that_waits_for_another_is_stuck_though_it_uses_the_processor() -> None:
    pulses = [(float(at), a_pulse(step_age_s=float(at), step_cpu_s=float(at))) for at in range(1, 40)]
    assert health_after(*pulses) == "slow"
    assert health_after(*pulses, patience=PATIENCE.of_group()) == "stuck"


def test_the_first_pulse_may_take_longer() -> None:
    watchdog = Watchdog(PATIENCE, now=100.0)
    assert watchdog.health(119.0) == "healthy"
    assert watchdog.health(121.0) == "frozen"
    assert watchdog.complaint(121.0) == "the runner was silent for 21.0 s"


def test_silence_means_nothing_while_the_bus_is_away() -> None:
    watchdog = Watchdog(PATIENCE, now=0.0)
    watchdog.hear(a_pulse(), 1.0)
    watchdog.note_bus(up=False, now=2.0)
    assert watchdog.health(1000.0) == "healthy"
    watchdog.note_bus(up=True, now=1000.0)
    watchdog.note_bus(up=True, now=1003.0)
    assert watchdog.health(1004.0) == "healthy"
    assert watchdog.health(1006.0) == "frozen"


def test_complaints_say_the_numbers() -> None:
    watchdog = Watchdog(PATIENCE, now=0.0)
    for at in range(1, 40):
        watchdog.hear(a_pulse(step_age_s=float(at)), float(at))
    assert watchdog.complaint(39.0) == "a step of the engine took 39.0 s, 30.0 s were allowed"
    watchdog.hear(a_pulse(steps=10), 40.0)
    assert watchdog.complaint(40.0) == ""


seconds = st.floats(0, 1e4)


@given(
    started_at=seconds,
    heard_at=st.none() | seconds,
    bus_up_since=st.none() | seconds,
    progressed_at=seconds,
    steps=st.integers(0, 9),
    age=seconds,
    slowest=seconds,
    wait=st.floats(0, 1e3),
)
def test_whoever_is_frozen_or_stuck_stays_so_without_news(
    started_at: float, heard_at: float | None, bus_up_since: float | None, progressed_at: float,
    steps: int, age: float, slowest: float, wait: float,
) -> None:  # fmt: skip
    """And with the bus away nobody is frozen."""
    pulse = None if heard_at is None else a_pulse(steps=steps, step_age_s=age, slowest_step_s=slowest)
    watched = Watched(
        started_at=started_at,
        heard_at=heard_at,
        bus_up_since=bus_up_since,
        pulse=pulse,
        progressed_at=progressed_at,
    )
    now = max(started_at, heard_at or 0, bus_up_since or 0, progressed_at)
    before, after = judge(watched, now, PATIENCE), judge(watched, now + wait, PATIENCE)
    if before == "frozen":
        assert after == "frozen"
    if before == "stuck":
        assert after in ("stuck", "frozen")
    if bus_up_since is None:
        assert "frozen" not in (before, after)
