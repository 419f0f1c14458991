"""Loading on demand as pure decisions: whatever happens in whatever order, nothing that serves is unloaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.master.decisions import decide
from actors.master.demand import PATIENCE_S
from actors.master.ripe import Ripe
from actors.master.senses import IDLE_S, Senses
from actors.master.unmet import SAME_S, Unmet
from actors.master.wishes import contradiction
from schemas.commands import DemandModel, Done
from schemas.events import (
    InstanceDeleted,
    InstancePlaced,
    InstanceRetired,
    ModelDemanded,
    ModelDesired,
    ModelIdled,
    NodeLost,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import ModelSpec
from schemas.node import Pulse
from schemas.refused import Refused
from schemas.state import State
from tests.facts import GIB, joined, profile
from tests.master.clusters import NOTHING, Healer, after, described, ready


def spec(name: str, *, keep: bool = False) -> ModelSpec:
    after_s = None if keep else 10.0
    return ModelSpec(id=ModelId(name), source=f"/{name}", on_demand=True, idle_timeout_s=after_s, keep=keep)


A, B, C = (spec(name) for name in "abc")


def cluster(*specs: ModelSpec, gib: int = 16, size: int = 10) -> State:
    """One node with so much memory (0.8 of it is for models), and models of `size` GiB that nobody has asked for."""
    state = after(State(), joined("n1", profile=profile(gib * GIB)))
    for each in specs:
        state = after(state, ModelDesired(spec=each), described(each, size))
    return state


def test_where_others_are_only_in_use_it_waits_a_while_and_then_hears_the_bytes() -> None:
    state = loaded(cluster(A, B), A)
    assert decide(state, DemandModel(model=B.id, waited_s=PATIENCE_S - 1)) == []
    refused = decide(state, DemandModel(model=B.id, waited_s=PATIENCE_S))
    assert isinstance(refused, Refused) and refused.code == "no_place"
    assert "bytes of memory are missing" in refused.reason


def demanded(state: State, model: ModelId, ripe: Ripe = NOTHING) -> State:
    events = decide(state, DemandModel(model=model), ripe)
    assert isinstance(events, list), events
    return after(state, *events)


def loaded(state: State, *models: ModelSpec) -> State:
    for each in models:
        state = ready(Healer().heal(demanded(state, each.id)))
    return state


def test_nobody_asks_and_nothing_is_loaded() -> None:
    assert not Healer().heal(cluster(A)).instances


def test_a_demand_loads_it_and_a_second_one_changes_nothing() -> None:
    state = Healer().heal(demanded(cluster(A), A.id))
    assert [one.spec for one in state.instances.values()] == [A]
    assert decide(state, DemandModel(model=A.id)) == []


def test_a_demand_for_what_is_not_known_is_refused() -> None:
    refused = decide(cluster(A), DemandModel(model=ModelId("aa")))
    assert isinstance(refused, Refused) and refused.code == "not_found"


def test_what_is_unused_is_retired_and_deleted_when_its_runner_has_ended_all() -> None:
    state = loaded(cluster(A), A)
    [one] = state.instances
    healer = Healer()
    state = healer.heal(state, Ripe(unused=frozenset({A.id})))
    assert state.instances[one].retired == "nobody has used it for 10 s"
    assert healer.heal(state) == state, "it may have taken a request meanwhile"
    assert not healer.heal(state, Ripe(drained=frozenset({one}))).instances
    assert state.models[A.id].idled_why == "nobody has used it for 10 s"


def test_who_asks_when_it_is_about_to_leave_gets_another_copy() -> None:
    state = Healer().heal(loaded(cluster(A, gib=64), A), Ripe(unused=frozenset({A.id})))
    [leaving] = state.instances
    state = Healer().heal(demanded(state, A.id))
    assert [one.retired != "" for one in state.instances.values()] == [True, False]
    assert decide(after(state, InstanceDeleted(instance=leaving, why="")), DemandModel(model=A.id)) == []


def test_where_both_do_not_fit_the_other_copy_comes_when_the_first_has_left() -> None:
    state = Healer().heal(loaded(cluster(A), A), Ripe(unused=frozenset({A.id})))
    [leaving] = state.instances
    state = Healer().heal(demanded(state, A.id))
    assert (list(state.instances), state.models[A.id].unplaced) == ([leaving], "")
    state = Healer().heal(state, Ripe(drained=frozenset({leaving})))
    assert [one.retired for one in state.instances.values()] == [""]


def test_the_least_recently_used_makes_room() -> None:
    state = loaded(cluster(A, B, C, gib=32), A, B)
    healer = Healer()
    state = healer.heal(demanded(state, C.id, Ripe(idle=(B.id, A.id))))
    [gone] = [one for one in state.instances.values() if one.retired]
    assert (gone.spec.id, gone.retired) == (B.id, "it was idle, and makes room for c")
    state = healer.heal(state, Ripe(drained=frozenset({gone.id})))
    assert {one.spec.id for one in state.instances.values()} == {A.id, C.id}


def test_what_is_wanted_always_may_take_the_room_of_what_is_idle() -> None:
    always = ModelSpec(id=ModelId("c"), source="/c")
    state = after(loaded(cluster(A), A), ModelDesired(spec=always), described(always))
    state = Healer().heal(state, Ripe(idle=(A.id,)))
    assert [one.retired for one in state.instances.values()] == ["it was idle, and makes room for c"]


def test_what_is_wanted_always_and_lost_its_node_takes_the_room_of_what_is_idle() -> None:
    always = ModelSpec(id=ModelId("c"), source="/c")
    state = after(loaded(cluster(A), A), joined("n2", profile=profile(16 * GIB)))
    state = after(state, ModelDesired(spec=always), described(always))
    state = ready(Healer().heal(state))
    state = Healer().heal(after(state, NodeLost(node=NodeId("n2"), incarnation="one", why="")))
    assert state.models[always.id].unplaced
    state = Healer().heal(state, Ripe(idle=(A.id,)))
    [gone] = state.instances_of(A.id)
    assert gone.retired == "it was idle, and makes room for c"
    state = Healer().heal(state, Ripe(drained=frozenset({gone.id})))
    [moved] = state.instances.values()
    assert (moved.spec, moved.attempt, moved.nodes) == (always, 2, {"n1"})


def test_while_something_has_no_place_it_is_looked_for_others_that_are_idle() -> None:
    """A second later nobody may use what stands in its way, and no event says so."""
    always = ModelSpec(id=ModelId("c"), source="/c")
    state = after(loaded(cluster(A), A), ModelDesired(spec=always), described(always))
    state = Healer().heal(state)
    assert state.models[always.id].unplaced
    _, wait_s = Senses(Clock()).ripe(state, (), 0.0)
    assert wait_s is not None and wait_s <= IDLE_S


def test_a_copy_whose_node_is_lost_keeps_its_model_from_nothing() -> None:
    """It will never say that it has no request."""
    state = after(
        loaded(cluster(pinned := replace(A, node=NodeId("n1"))), pinned),
        NodeLost(node=NodeId("n1"), incarnation="one", why=""),
    )
    clock = Clock()
    senses = Senses(clock)
    senses.ripe(state, (), 0.0)
    clock.now = 10.0
    ripe, _ = senses.ripe(state, (), 0.0)
    assert ripe.unused == {A.id}
    assert not Healer().heal(state, ripe).instances


def test_one_that_would_not_help_stays() -> None:
    """The longest unused is too small to make room."""
    state = cluster(A, gib=32, size=1)
    for each in (B, C):
        state = after(state, ModelDesired(spec=each), described(each, 20))
    state = loaded(state, A, B)
    events = decide(state, DemandModel(model=C.id), Ripe(idle=(A.id, B.id)))
    assert isinstance(events, list)
    assert [each.model for each in events if isinstance(each, ModelIdled)] == [B.id]


def test_where_what_is_kept_has_the_room_it_is_refused_at_once() -> None:
    kept = spec("a", keep=True)
    refused = decide(loaded(cluster(kept, B), kept), DemandModel(model=B.id))
    assert isinstance(refused, Refused) and refused.code == "no_place"
    assert "bytes of memory are missing" in refused.reason


def test_without_a_node_it_is_demanded_and_waits() -> None:
    state = after(State(), ModelDesired(spec=A))
    state = Healer().heal(demanded(state, A.id))
    assert state.models[A.id].absent


def test_one_whose_size_turns_out_to_be_too_large_is_not_demanded_any_more() -> None:
    state = after(State(), joined("n1", profile=profile(8 * GIB)), ModelDesired(spec=A))
    state = Healer().heal(demanded(state, A.id))
    assert state.instances
    state = Healer().heal(after(state, described(A)))
    assert not state.instances and not state.models[A.id].demanded
    assert isinstance(decide(state, DemandModel(model=A.id)), Refused)


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        ({"on_demand": True, "replicas": 0}, "replicas"),
        ({"idle_timeout_s": 9.0}, "idle_timeout_s"),
        ({"keep": True}, "keep"),
        ({"on_demand": True, "keep": True, "idle_timeout_s": 9.0}, "keep"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(wishes: dict[str, object], named: str) -> None:
    assert named in contradiction(replace(ModelSpec(id=A.id, source="/a"), **wishes))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


beats = st.tuples(
    st.floats(0.1, 4), st.sampled_from(["pulse", "demand", "nothing"]), st.integers(0, 2), st.integers(0, 2)
)


@given(st.lists(beats, max_size=40), st.booleans())
def test_what_serves_or_was_used_of_late_is_never_unloaded_nor_makes_room(
    history: list[tuple[float, str, int, int]], keep: bool
) -> None:
    """Whatever is heard in whatever order: an unloaded model was silent for its time, and said last that it is idle."""
    state = loaded(cluster(wished := spec("a", keep=keep)), wished)
    [one] = state.instances.values()
    clock = Clock()
    senses, used, steps, running, heard = Senses(clock), 0.0, 0, 0, float("-inf")
    senses.ripe(state, (), 0.0)
    for pause, what, done, has in history:
        clock.now += pause
        if what == "pulse":
            first = heard == float("-inf")
            steps, running, heard = steps + done, has, clock.now
            senses.hear(pulse(one.id, steps, running), state)
            used = clock.now if done or has or first else used
        elif what == "demand":
            senses.activity.use(wished.id)
            used = clock.now
        ripe, _ = senses.ripe(state, (), 0.0)
        serves = running > 0 or clock.now - heard >= 5
        assert wished.id not in ripe.unused or (not keep and not serves and clock.now - used >= 10)
        assert wished.id not in ripe.idle or (not keep and not serves and clock.now - used >= IDLE_S)
        assert (wished.id in ripe.unused) == (not keep and not serves and clock.now - used >= 10)


def pulse(instance: InstanceId, steps: int, running: int, *, retired: bool = False) -> Pulse:
    return Pulse(
        instance=instance,
        attempt=1,
        steps=steps,
        step_age_s=0,
        step_cpu_s=0,
        slowest_step_s=0,
        running=running,
        retired=retired,
    )


@given(st.booleans(), st.integers(0, 2), st.floats(0, 9))
def test_a_retired_one_is_drained_when_it_knows_and_has_nothing_left(
    knows: bool, running: int, age: float
) -> None:
    state = loaded(cluster(A), A)
    [one] = state.instances
    state = after(state, InstanceRetired(instance=one, why="it was unused"))
    clock = Clock()
    senses = Senses(clock)
    senses.hear(pulse(one, 1, running, retired=knows), state)
    clock.now += age
    ripe, _ = senses.ripe(state, (), 0.0)
    assert (one in ripe.drained) == (knows and not running and age < 5)


def test_what_came_to_nothing_is_answered_again_until_it_may_come_to_something() -> None:
    state, clock = cluster(A), Clock()
    unmet = Unmet(clock)
    soon, late = DemandModel(model=A.id), DemandModel(model=A.id, waited_s=PATIENCE_S)
    assert unmet.answer(soon, state) is None
    unmet.note(soon, Done())
    assert (unmet.answer(soon, state), unmet.answer(late, state)) == (Done(), None)
    assert unmet.answer(soon, after(state, InstanceRetired(instance=InstanceId("i"), why=""))) == Done()
    assert unmet.answer(soon, after(state, joined("n2"))) is None
    unmet.note(soon, Done())
    clock.now += SAME_S
    assert unmet.answer(soon, state) is None


def test_a_copy_is_placed_once_and_its_model_demanded_once() -> None:
    healer = Healer()
    state = healer.heal(demanded(cluster(A), A.id))
    healer.heal(ready(state))
    assert [type(each) for each in healer.decided] == [InstancePlaced]
    assert ModelDemanded(model=A.id) not in healer.decided
