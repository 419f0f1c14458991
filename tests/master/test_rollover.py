"""A model that is changed, as pure decisions: older copies serve until newer ones are ready, and end what they have."""

from hypothesis import given
from hypothesis import strategies as st

from actors.master.ripe import Ripe
from schemas.events import (
    InstanceDeleted,
    InstancePlaced,
    InstanceRetired,
    ModelDesired,
    NodeDrained,
    NodeLost,
    RunnerReported,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance
from schemas.model import ModelSpec
from schemas.state import State
from schemas.version import pulls, same_form, serving
from tests.facts import GIB, joined, profile
from tests.master.clusters import Healer, after, described, ready

ME = ModelId("me")


def spec(name: str, replicas: int = 1, slots: int | None = None) -> ModelSpec:
    return ModelSpec(id=ME, source=f"/{name}", replicas=replicas, slots=slots)


def serves(state: State, wanted: ModelSpec) -> bool:
    return serving(state, state.models[ME]).source == wanted.source


def cluster(gib: int, was: ModelSpec) -> State:
    """A node with room for so many GiB, where copies of 10 GiB are ready."""
    state = after(State(), joined("n1", profile=profile(gib * GIB)), ModelDesired(spec=was), described(was))
    return ready(Healer().heal(state))


def changed(state: State, new: ModelSpec) -> State:
    return after(state, ModelDesired(spec=new), described(new))


def test_where_both_fit_the_older_serves_until_the_newer_is_ready() -> None:
    old, new = spec("a"), spec("b")
    state = cluster(64, old)
    [first] = state.instances
    healer = Healer()
    state = healer.heal(changed(state, new))
    assert [one.retired for one in state.instances.values()] == ["", ""]
    assert serves(state, old)
    assert [pulls(state, one) for one in state.instances.values()] == [True, False]
    state = healer.heal(ready(state))
    assert serves(state, new)
    assert [pulls(state, one) for one in state.instances.values()] == [False, True]
    assert state.instances[first].retired == "the model was changed, and what is wanted now is ready"
    state = healer.heal(state, Ripe(drained=frozenset({first})))
    assert [one.spec.source for one in state.instances.values()] == ["/b"]


def test_a_newer_one_that_fails_leaves_the_older_one_serving_and_going_back_costs_nothing() -> None:
    old, new = spec("a"), spec("b")
    healer = Healer()
    state = healer.heal(changed(cluster(64, old), new))
    [second] = [one for one in state.instances.values() if one.spec.source == "/b"]
    report = RunnerReported(
        instance=second.id, node=second.shards[0].node, attempt=1, status="failed", retryable=False
    )
    state = healer.heal(after(state, report))
    assert serves(state, old)
    healer = Healer()
    state = healer.heal(after(state, ModelDesired(spec=old)))
    assert [type(each) for each in healer.decided] == [InstanceDeleted]
    assert [one.spec.source for one in state.instances.values()] == ["/a"]


def test_one_that_never_served_is_replaced_at_once() -> None:
    state = after(State(), joined("n1"), ModelDesired(spec=spec("a")))
    state = Healer().heal(state)
    healer = Healer()
    healer.heal(after(state, ModelDesired(spec=spec("b"))))
    assert [type(each) for each in healer.decided] == [InstanceDeleted, InstancePlaced]


def test_without_room_for_both_one_is_replaced_after_another_and_the_log_says_why() -> None:
    old, new = spec("a", replicas=2), spec("b", replicas=2)
    state = cluster(32, old)
    healer = Healer()
    state = healer.heal(changed(state, new))
    [first] = [one for one in state.instances.values() if one.retired]
    assert "both do not fit" in first.retired and "needs 12884901888 bytes" in first.retired
    assert serves(state, old), "the other one still does"
    state = healer.heal(state, Ripe(drained=frozenset({first.id})))
    state = healer.heal(ready(state))
    [second] = [one for one in state.instances.values() if one.retired]
    assert serves(state, new) and second.spec.source == "/a"
    state = ready(healer.heal(state, Ripe(drained=frozenset({second.id}))))
    assert [one.spec for one in state.instances.values()] == [new, new]


def test_one_that_fits_nowhere_retires_nobody() -> None:
    old, new = spec("a"), spec("b")
    state = after(cluster(16, old), ModelDesired(spec=new), described(new, 40))
    state = Healer().heal(state)
    assert state.models[ME].unplaced and serves(state, old)
    assert [one.retired for one in state.instances.values()] == [""]


def test_a_retired_one_has_its_time_and_no_more() -> None:
    healer = Healer()
    state = healer.heal(ready(healer.heal(changed(cluster(64, spec("a")), spec("b")))))
    [old] = [one for one in state.instances.values() if one.retired]
    assert healer.heal(state) == state
    assert old.id not in healer.heal(state, Ripe(overdue=frozenset({old.id}))).instances


def test_more_slots_are_a_new_form_of_the_same_version() -> None:
    old, new = spec("a"), spec("a", slots=4)
    state = Healer().heal(after(cluster(64, old), ModelDesired(spec=new)))
    assert all(pulls(state, one) for one in state.instances.values())
    state = Healer().heal(ready(state))
    assert [bool(one.retired) for one in state.instances.values()] == [True, False]


steps = st.sampled_from(["a", "b", "c", "heal", "ready one", "ready all", "drain", "fail"])


@given(st.integers(12, 60), st.integers(1, 2), st.lists(steps, max_size=25))
def test_in_any_order_there_is_always_one_that_serves_or_a_reason(
    gib: int, replicas: int, history: list[str]
) -> None:
    """What serves is only taken away for what is ready, or to make room for what fits nowhere else."""
    state, healer = cluster(max(gib, 16), spec("a", replicas)), Healer()
    for step in history:
        before = state
        if step in "abc":
            state = changed(state, spec(step, replicas))
        elif step == "heal":
            state = healer.heal(state)
        elif step == "drain":
            retired = frozenset(one.id for one in state.instances.values() if one.retired)
            state = healer.heal(state, Ripe(drained=retired))
        else:
            state = reported(state, step)
        check(before, state)
    final = ready(healer.heal(state, everything(state)))
    for _ in range(6):
        final = ready(healer.heal(final, everything(final)))
    assert all(same_form(one.spec, final.models[ME].spec) for one in final.instances.values())
    assert any(one.status == "ready" for one in final.instances.values())


def everything(state: State) -> Ripe:
    """All that was retired is drained, all that has failed may be tried again."""
    retired = frozenset(one.id for one in state.instances.values() if one.retired)
    failed = frozenset(one.id for one in state.instances.values() if one.status == "failed")
    return Ripe(drained=retired, failed=failed)


def reported(state: State, step: str) -> State:
    loading = [one for one in state.instances.values() if one.status == "placed"]
    if step == "ready all":
        return ready(state)
    for one in loading[:1]:
        status = "ready" if step == "ready one" else "failed"
        report = RunnerReported(instance=one.id, node=one.shards[0].node, attempt=one.attempt, status=status)
        return after(state, report)
    return state


def check(before: State, state: State) -> None:
    """No instance that takes requests vanishes without having been retired, and each is retired for a reason."""
    for key in before.instances.keys() - state.instances.keys():
        gone = before.instances[key]
        assert gone.retired or not gone.served, "it was deleted while it served"
    for one in state.instances.values():
        was = before.instances.get(one.id)
        if one.retired and was is not None and not was.retired:
            newer = [each for each in state.instances.values() if each.status == "ready" and not each.retired]
            assert newer or "both do not fit" in one.retired


def test_one_of_several_that_failed_and_has_lost_its_room_is_no_end_of_the_rollover() -> None:
    """Both newer ones were placed before anybody knew how large they are."""
    state = Healer().heal(after(cluster(40, spec("a")), ModelDesired(spec=spec("b", replicas=2))))
    first, second = (one for one in state.instances.values() if one.spec.source == "/b")
    state = after(ready(state, first.id), failed(second), described(spec("b")))
    state = after(state, joined("n2", profile=profile(8 * GIB)))
    retry = Ripe(failed=frozenset({second.id}))
    state = Healer().heal(state, retry)
    [older] = [one for one in state.instances.values() if one.spec.source == "/a"]
    assert "what is ready of it serves" in older.retired
    state = ready(Healer().heal(state, Ripe(drained=frozenset({older.id}), failed=retry.failed)))
    assert [(one.spec.source, one.attempt) for one in state.instances.values()] == [("/b", 1), ("/b", 2)]


def test_for_a_newer_one_that_has_only_failed_nobody_makes_way() -> None:
    state = Healer().heal(after(cluster(24, spec("a")), ModelDesired(spec=spec("b"))))
    [newer] = [one for one in state.instances.values() if one.spec.source == "/b"]
    state = after(state, failed(newer), described(spec("b")))
    state = Healer().heal(state, Ripe(failed=frozenset({newer.id})))
    assert [one.retired for one in state.instances.values()] == ["", ""] and serves(state, spec("a"))
    assert state.models[ME].unplaced


def test_what_was_ready_on_a_node_that_is_lost_serves_nobody() -> None:
    state = after(cluster(16, spec("a")), joined("n2", profile=profile(64 * GIB)))
    state = Healer().heal(after(state, ModelDesired(spec=spec("b", replicas=2))))
    first, *_ = (one for one in state.instances.values() if one.spec.source == "/b")
    state = ready(after(state, NodeDrained(node=NodeId("n2"))), first.id)
    assert serves(state, spec("a"))
    state = Healer().heal(after(state, NodeLost(node=NodeId("n1"), incarnation="one", why="")))
    assert serves(state, spec("b")) and pulls(state, state.instances[first.id])


def failed(one: Instance) -> RunnerReported:
    return RunnerReported(
        instance=one.id, node=one.shards[0].node, attempt=one.attempt, status="failed", reason="killed"
    )


def test_events_of_a_rollover_in_their_order() -> None:
    healer = Healer()
    state = ready(healer.heal(changed(cluster(64, spec("a")), spec("b"))))
    state = healer.heal(state)
    [old] = [one.id for one in state.instances.values() if one.retired]
    healer.heal(state, Ripe(drained=frozenset({InstanceId(old)})))
    assert [type(each) for each in healer.decided] == [InstancePlaced, InstanceRetired, InstanceDeleted]
