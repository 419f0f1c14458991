"""When a task is found guilty of its runners' deaths."""

from hypothesis import given
from hypothesis import strategies as st

from api.requests.suspicion import Suspicion
from schemas.instance import Fate


def deaths_until_guilty(fate: Fate, among: int = 1) -> int:
    suspicion, deaths = Suspicion(), 0
    while not suspicion.guilty:
        suspicion.note_death(fate, among)
        deaths += 1
    return deaths


def test_two_crashes_or_four_kills_alone() -> None:
    assert (deaths_until_guilty("fell"), deaths_until_guilty("killed")) == (2, 4)


def test_who_is_told_to_leave_is_nobodys_victim() -> None:
    suspicion = Suspicion()
    for fate in ("left", ""):
        suspicion.note_death(fate, among=1)
    assert not suspicion.suspect


def test_a_token_clears_of_everything() -> None:
    suspicion = Suspicion()
    suspicion.note_death("fell", among=1)
    assert suspicion.suspect
    suspicion.clear()
    assert not suspicion.suspect
    suspicion.note_death("fell", among=1)
    assert not suspicion.guilty


@given(st.integers(2, 500))
def test_one_death_convicts_nobody_in_a_crowd(among: int) -> None:
    """Everybody bears a share, and is tried apart from then on: the guilty one falls in two more."""
    suspicion = Suspicion()
    suspicion.note_death("fell", among)
    assert suspicion.suspect and not suspicion.guilty
    suspicion.note_death("fell", among=1)
    assert not suspicion.guilty
    suspicion.note_death("fell", among=1)
    assert suspicion.guilty
