"""The fold over the log, for generated histories: idempotent, joinable anywhere, deaf to what is stale."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bus.bucket import Entry
from bus.snapshots import changes_between
from bus.view import HEAD, Head, key_of, restore
from schemas.events import Event, Recorded, UnknownEvent, decode_event, encode_event
from schemas.state import State, apply, change_of, replace_entity
from tests.replay import replay
from tests.schemas.histories import histories

RECORDED = histories()


def bucket_of(state: State) -> list[Entry]:
    """What the leader's snapshot of `state` leaves in the bucket."""
    entries = [
        Entry(key_of(change), msgspec.json.encode(change.value), 1)
        for change in changes_between(State(), state)
    ]
    return [*entries, Entry(HEAD, msgspec.json.encode(Head(state.seq)), 1)]


@given(RECORDED)
def test_an_event_applied_twice_is_applied_once(history: list[Recorded]) -> None:
    state = replay(history)
    assert replay(history, state) == state
    twice = [recorded for recorded in history for _ in range(2)]
    assert replay(twice) == state


@given(RECORDED, st.data())
def test_joining_from_any_snapshot_gives_the_same_state(history: list[Recorded], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(history)))
    joined = restore(bucket_of(replay(history[:cut])))
    assert joined == replay(history[:cut])
    assert replay(history[cut:], joined) == replay(history)


@given(RECORDED, st.data())
def test_a_snapshot_that_was_cut_short_is_made_up_for_by_the_log(
    history: list[Recorded], data: st.DataObject
) -> None:
    """The leader died between two keys: some entities are newer than `head`."""
    cut = data.draw(st.integers(0, len(history)))
    old, new = replay(history[:cut]), replay(history)
    partial = restore(bucket_of(old))
    for change in changes_between(old, new):
        if data.draw(st.booleans()):
            partial = replace_entity(partial, change)
    assert replay(history[cut:], partial) == new


@given(RECORDED)
def test_one_event_changes_at_most_the_one_entity_that_it_names(history: list[Recorded]) -> None:
    state = State()
    for recorded in history:
        change = change_of(state, recorded)
        after = apply(state, recorded)
        changed = [(found.kind, found.id) for found in changes_between(state, after)]
        assert changed == ([] if change is None else [(change.kind, change.id)])
        if isinstance(recorded.event, Event) and change is not None:
            assert change.id == recorded.event.entity_id
        state = after


@given(RECORDED)
def test_events_survive_the_wire(history: list[Recorded]) -> None:
    for recorded in history:
        if isinstance(recorded.event, Event):
            assert decode_event(encode_event(recorded.event)) == recorded.event


@given(st.binary(max_size=200))
def test_any_bytes_at_all_can_stand_in_the_log(raw: bytes) -> None:
    event = decode_event(raw)
    state = apply(State(), Recorded(seq=1, time=0.0, event=event))
    assert state == State(seq=1)


def test_a_field_of_a_newer_version_is_ignored_and_a_newer_kind_is_kept() -> None:
    known = decode_event(b'{"type":"ModelRemoved","model":"m","because":"a reason from the future"}')
    assert not isinstance(known, UnknownEvent)
    unknown = decode_event(b'{"type":"ModelPraised","model":"m"}')
    assert unknown == UnknownEvent(
        type="ModelPraised",
        raw=b'{"type":"ModelPraised","model":"m"}',
        why="Invalid value 'ModelPraised' - at `$.type`",
    )
