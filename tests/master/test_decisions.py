"""What the leader decides, as pure functions: for generated clusters, healing ends, and ends well."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.master.complaints import Complaints
from actors.master.decisions import backoff_s, decide, heal
from actors.master.placement import NoPlace, Placement, place
from actors.master.ripe import Ripe
from actors.master.senses import Senses
from schemas.commands import DrainNode, LoadModel, RestartInstance, UnloadModel
from schemas.events import (
    Decided,
    DownloadReported,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetried,
    LinksMeasured,
    ModelDescribed,
    ModelDesired,
    NodeDrained,
    NodeJoined,
    NodeLeft,
    NodeLost,
    Recorded,
    RunnerReported,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec
from schemas.presence import is_alive
from schemas.refused import Refused
from schemas.revision import marked
from schemas.state import State, apply
from tests.facts import GIB, joined, profile
from tests.replay import replay
from tests.schemas.histories import histories

GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide")
EVERYTHING = Ripe()


def after(
    state: State,
    *events: Decided
    | DownloadReported
    | LinksMeasured
    | NodeJoined
    | NodeLeft
    | RunnerReported
    | ModelDescribed,
) -> State:
    for event in events:
        state = apply(state, Recorded(seq=state.seq + 1, time=float(state.seq), event=event))  # type: ignore[arg-type]
    return state


def healed(state: State, ripe: Ripe, most_rounds: int = 100) -> State:
    ids = (InstanceId(f"new{number}") for number in count())
    for _ in range(most_rounds):
        events = heal(state, ripe, lambda: next(ids))
        if not events:
            return state
        state = after(state, *events)
    raise AssertionError("healing does not end")


@given(histories(), st.sets(st.sampled_from([NodeId("n1"), NodeId("n2")])), st.booleans())
def test_healing_ends_with_what_is_wished_for(
    history: list[Recorded], lost: set[NodeId], retry: bool
) -> None:
    state = replay(history)
    failed = (
        frozenset(i.id for i in state.instances.values() if i.status == "failed") if retry else frozenset()
    )
    state = healed(state, Ripe(lost=frozenset(lost), failed=failed))
    assert not any(node.alive and node.id in lost for node in state.nodes.values())
    workers = [
        node for node in state.nodes.values() if node.alive and not node.draining and "worker" in node.roles
    ]
    for instance in state.instances.values():
        assert instance.spec.id in state.models
    for model in state.models.values():
        there = [
            one
            for one in state.instances_of(model.spec.id)
            if not any(state.nodes[node].draining for node in one.nodes if node in state.nodes)
        ]
        assert len(there) <= model.spec.replicas
        if workers:
            assert len(there) == model.spec.replicas
            assert all(is_alive(state, node) for instance in there for node in instance.nodes)


@given(histories())
def test_healing_a_healthy_cluster_decides_nothing(history: list[Recorded]) -> None:
    state = healed(replay(history), EVERYTHING)
    assert heal(state, EVERYTHING) == []


@given(histories(), st.builds(LoadModel, spec=st.just(GUIDE)))
def test_a_command_twice_is_a_command_once(history: list[Recorded], order: LoadModel) -> None:
    state = replay(history)
    events = decide(state, order)
    assert not isinstance(events, Refused)
    state = after(state, *events)
    again = decide(state, order)
    assert not isinstance(again, Refused)
    assert not any(isinstance(event, ModelDesired) for event in again)


def test_what_a_drained_node_carries_goes_elsewhere_first() -> None:
    state = healed(after(State(), joined("n1"), joined("n2"), ModelDesired(spec=GUIDE)), EVERYTHING)
    [old] = state.instances.values()
    [node] = old.nodes
    drained = decide(state, DrainNode(node=node))
    assert drained == [NodeDrained(node=node)]
    state = after(state, NodeDrained(node=node))
    [new] = heal(state, EVERYTHING)
    assert isinstance(new, InstancePlaced)
    assert {shard.node for shard in new.shards} == {"n1", "n2"} - old.nodes
    state = after(state, new)
    assert heal(state, EVERYTHING) == [], "the old one serves until the new one can"
    ready = RunnerReported(instance=new.instance, node=new.shards[0].node, attempt=1, status="ready")
    [gone] = heal(after(state, ready), EVERYTHING)
    assert isinstance(gone, InstanceDeleted) and gone.instance == old.id


def test_a_drained_node_whose_model_has_no_other_place_keeps_it_and_says_why() -> None:
    state = healed(after(State(), joined("n1"), ModelDesired(spec=GUIDE)), EVERYTHING)
    state = healed(after(state, NodeDrained(node=NodeId("n1"))), EVERYTHING)
    assert len(state.instances) == 1
    assert "excluded or drained" in state.models[GUIDE.id].unplaced
    again = decide(state, DrainNode(node=NodeId("n1"), undo=True))
    assert isinstance(again, list)
    state = healed(after(state, *again), EVERYTHING)
    assert (len(state.instances), state.models[GUIDE.id].unplaced) == (1, "")


def test_a_node_that_starts_again_is_used_again() -> None:
    state = after(State(), joined("n1"), NodeDrained(node=NodeId("n1")))
    assert after(state, joined("n1")).nodes[NodeId("n1")].draining
    assert not after(state, joined("n1", incarnation="two")).nodes[NodeId("n1")].draining


def test_unloading_what_is_not_loaded_names_the_nearest() -> None:
    state = after(State(), ModelDesired(spec=GUIDE))
    assert decide(state, UnloadModel(model=ModelId("guid"))) == Refused(
        "not_found", "there is no model guid; did you mean 'guide'?"
    )


def test_a_lost_nodes_instance_goes_where_a_node_is_left() -> None:
    state = healed(after(State(), joined("n1"), ModelDesired(spec=GUIDE)), EVERYTHING)
    [instance] = state.instances.values()
    state = after(state, joined("n2"))
    [lost] = heal(state, Ripe(lost=frozenset({NodeId("n1")})))
    assert lost == NodeLost(node=NodeId("n1"), incarnation="one", why="its lease ran out")
    [moved] = heal(after(state, lost), EVERYTHING)
    assert isinstance(moved, InstanceRetried)
    assert (moved.instance, moved.attempt, moved.shards[0].node) == (instance.id, 2, "n2")


def test_a_failure_that_cannot_heal_waits_for_a_person() -> None:
    state = healed(after(State(), joined("n1"), ModelDesired(spec=GUIDE)), EVERYTHING)
    [instance] = state.instances.values()
    report = RunnerReported(
        instance=instance.id, node=NodeId("n1"), attempt=1, status="failed", reason="no file", retryable=False
    )
    state = after(state, report)
    assert heal(state, EVERYTHING) == []
    events = decide(state, LoadModel(spec=GUIDE))
    assert isinstance(events, list) and isinstance(events[0], InstanceRetried)


def test_places_are_where_memory_is_and_copies_are_spread() -> None:
    card = ModelCard(
        architecture="llama",
        parameters=1,
        weights_bytes=10 * GIB,
        vocabulary=8,
        context=16,
        eos_ids=(0,),
        artifact="a",
    )
    described = ModelDescribed(model=GUIDE.id, source=GUIDE.source, card=card)
    small, large = joined("small", profile=profile(8 * GIB)), joined("large", profile=profile(64 * GIB))
    state = after(State(), small, described)
    refused = place(GUIDE, state)
    assert isinstance(refused, NoPlace) and str(12 * GIB) in refused.reason
    state = after(state, large)
    placement = place(GUIDE, state)
    assert isinstance(placement, Placement) and placement.shards[0].node == "large"
    state = after(state, joined("other", profile=profile(64 * GIB)))
    state = after(state, InstancePlaced(instance=InstanceId("i"), spec=GUIDE, shards=placement.shards))
    placement = place(GUIDE, state)
    assert isinstance(placement, Placement) and placement.shards[0].node == "other"


def test_a_split_over_a_cut_link_waits_until_it_is_there_and_says_so() -> None:
    card = ModelCard(
        architecture="llama", parameters=8, weights_bytes=8, vocabulary=8, context=16, eos_ids=(0,), artifact="a",
        layer_bytes=(4, 4),
    )  # fmt: skip
    spec = ModelSpec(id=ModelId("two"), source="hf:o/two", strategy="pipeline", min_nodes=2)
    described = ModelDescribed(model=spec.id, source=spec.source, card=card)
    state = healed(after(State(), joined("n1"), joined("n2"), described, ModelDesired(spec=spec)), EVERYTHING)
    [instance] = state.instances.values()
    assert len(instance.nodes) == 2

    def link(reachable: bool) -> LinksMeasured:
        there = Link(
            from_node=NodeId("n1"),
            to_node=NodeId("n2"),
            latency_s=0,
            bandwidth_bytes_s=1,
            reachable=reachable,
        )
        return LinksMeasured(node=NodeId("n1"), links=(there,))

    failed = RunnerReported(
        instance=instance.id, node=NodeId("n1"), attempt=1, status="failed", reason="the link is cut"
    )
    state = healed(after(state, link(False), failed), Ripe(failed=frozenset({instance.id})))
    assert state.instances[instance.id].attempt == 1
    assert "the link between n1 and n2 is cut" in state.models[spec.id].unplaced
    state = after(state, link(True))
    [retried] = heal(state, Ripe(failed=frozenset({instance.id})))
    state = healed(after(state, retried), EVERYTHING)
    assert (state.instances[instance.id].attempt, state.models[spec.id].unplaced) == (2, "")


def test_what_was_pulled_is_loaded_of_a_model_and_of_its_draft() -> None:
    spec = ModelSpec(id=ModelId("m"), source="hf:org/m", draft="hf:org/draft")
    newer = replace(spec, source=marked(spec.source, "0" * 12), draft=marked(spec.draft, "1" * 12))
    pulls = (
        DownloadReported(
            node=NodeId("n"), model=ModelId(source), source=source, status="complete", pulled=True
        )
        for source in (newer.source, newer.draft)
    )
    state = after(State(), ModelDesired(spec=spec), *pulls)
    assert decide(state, LoadModel(spec=spec)) == [ModelDesired(spec=newer)]
    assert decide(after(state, ModelDesired(spec=newer)), LoadModel(spec=spec)) == []


def test_no_worker_is_said() -> None:
    refused = place(GUIDE, after(State(), joined("n1", roles=("api",))))
    assert refused == NoPlace("no node with a worker is there: start one with `actors up`", absent=True)


def test_backoff_grows_to_a_bound() -> None:
    assert [backoff_s(failures) for failures in (0, 1, 2, 3, 4)] == [0, 0, 0.5, 1, 2]
    assert backoff_s(10_000) == 30


@given(st.lists(st.tuples(st.floats(0, 10), st.sets(st.sampled_from("abc"))), max_size=20))
def test_a_complaint_is_ripe_when_it_was_made_without_pause_for_its_delay(
    steps: list[tuple[float, set[str]]],
) -> None:
    complaints, since, now = Complaints(), dict[str, float](), 0.0
    for pause, made in steps:
        now += pause
        since = {name: since.get(name, now) for name in made}
        ripe, again_s = complaints.ripe(dict.fromkeys(made, 5.0), now)
        assert ripe == {name for name in made if since[name] + 5.0 - now <= 0}
        assert again_s is None or again_s > 0


def test_who_was_lost_and_has_joined_again_is_given_its_time_anew() -> None:
    """The leader may hear of both at once."""
    node, clock = NodeId("n1"), count().__next__
    senses, before = Senses(clock), after(State(), joined(node))
    assert not senses.ripe(before, [node], 1.0)[0].lost
    assert senses.ripe(before, [node], 1.0)[0].lost == {node}
    back = after(before, NodeLost(node=node, incarnation="one", why="its lease ran out"), joined(node))
    assert not senses.ripe(back, [node], 1.0)[0].lost
    assert senses.ripe(back, [node], 1.0)[0].lost == {node}


def test_a_restart_that_has_no_place_is_refused() -> None:
    instance = InstanceId("i")
    state = after(
        State(),
        joined("n1"),
        ModelDesired(spec=GUIDE),
        InstancePlaced(instance=instance, spec=GUIDE, shards=(Shard(node=NodeId("n1")),)),
        NodeLost(node=NodeId("n1"), incarnation="one", why="its lease ran out"),
    )
    refused = decide(state, RestartInstance(instance=instance))
    assert isinstance(refused, Refused) and "no node with a worker" in refused.reason


def test_what_is_decided_at_once_does_not_take_the_same_place() -> None:
    """Each placement counts in the next one, of other models too; so does each that is moved."""
    wished = [ModelDesired(spec=ModelSpec(id=ModelId(name), source="builtin:guide")) for name in "abcd"]
    state = after(State(), *(joined(f"n{number}") for number in range(4)), *wished)
    ids = (InstanceId(f"new{number}") for number in count())
    placed = heal(state, EVERYTHING, lambda: next(ids))
    assert {shard.node for one in placed for shard in shards_of(one)} == set(state.nodes)
    state = after(state, *placed)
    dead = [NodeLost(node=NodeId(name), incarnation="one", why="") for name in ("n0", "n1")]
    moved = heal(after(state, *dead), EVERYTHING)
    assert {shard.node for one in moved for shard in shards_of(one)} == {"n2", "n3"}


def shards_of(event: Decided) -> tuple[Shard, ...]:
    assert isinstance(event, InstancePlaced | InstanceRetried)
    return event.shards
