"""Placement as the leader does it: from the state, split where the engine can run it, moved when a model was read late."""

from typing import Any

import msgspec
import pytest

from actors.master import placement
from actors.master.decisions import Ripe, decide, heal
from actors.master.placement import NoPlace, Placement, ask, place, preview
from schemas.commands import LoadModel
from schemas.events import (
    DownloadReported,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetried,
    LinksMeasured,
    ModelDescribed,
    ModelDesired,
    ModelUnplaced,
    NodeLost,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard, Split
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec, Share, SimulatedSpeed
from schemas.refused import Refused
from schemas.state import State
from tests.facts import GIB, joined, profile
from tests.master.test_decisions import after, healed

N1, N2 = NodeId("n1"), NodeId("n2")
BIG = ModelSpec(id=ModelId("big"), source="hf:o/big")
CARD = ModelCard(
    architecture="llama", parameters=8 * GIB, weights_bytes=8 * GIB, vocabulary=8, context=16, eos_ids=(0,), artifact="a",
    layer_bytes=(GIB,) * 8, outer_bytes=0, head_bytes=0, heads=8, kv_heads=4,
)  # fmt: skip
"""9.6 GiB with its cache; a node of 8 GiB may hold 6.4 of them: 5 layers."""
READ = ModelDescribed(model=BIG.id, source=BIG.source, card=CARD)
SMALL: dict[str, Any] = {"profile": profile(8 * GIB)}


@pytest.fixture
def split_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    every: frozenset[Split] = frozenset({"whole", "pipeline", "tensor", "hybrid"})
    monkeypatch.setattr(placement, "splittable", lambda _: every)


@pytest.fixture
def split_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: frozenset[Split] = frozenset({"whole"})
    monkeypatch.setattr(placement, "splittable", lambda _: whole)


def small_ones(*more: Any) -> State:
    return after(State(), joined("n1", **SMALL), joined("n2", **SMALL), ModelDesired(spec=BIG), *more)


@pytest.mark.usefixtures("split_everything")
def test_a_model_that_fits_no_node_is_split_over_two() -> None:
    state = healed(small_ones(READ), Ripe())
    [instance] = state.instances.values()
    assert instance.split in ("pipeline", "tensor")
    assert instance.nodes == {N1, N2}
    assert heal(state, Ripe()) == []


@pytest.mark.usefixtures("split_everything")
def test_rank_0_has_the_last_layers() -> None:
    spec = ModelSpec(
        id=BIG.id, source=BIG.source, strategy="pipeline", split=(Share(node=N2), Share(node=N1))
    )
    placed = place(spec, small_ones(READ))
    assert isinstance(placed, Placement)
    assert [(shard.node, shard.rank) for shard in placed.shards] == [(N2, 1), (N1, 0)]
    first, last = placed.shards
    assert first.layers is not None and last.layers is not None
    assert (first.layers[0], first.layers[1], last.layers[1]) == (0, last.layers[0], 8)


@pytest.mark.usefixtures("split_everything")
def test_the_way_between_nodes_counts() -> None:
    """n3 is as good as n2, but far."""
    near = Link(from_node=N1, to_node=N2, latency_s=1e-5, bandwidth_bytes_s=1e9)
    links = [
        Link(from_node=one, to_node=NodeId("n3"), latency_s=1.0, bandwidth_bytes_s=1e6) for one in (N1, N2)
    ]
    state = small_ones(READ, joined("n3", **SMALL), LinksMeasured(node=N1, links=(near, *links)))  # type: ignore[arg-type]
    placed = place(BIG, state)
    assert isinstance(placed, Placement)
    assert {shard.node for shard in placed.shards} == {N1, N2}


@pytest.mark.usefixtures("split_nothing")
def test_what_the_engine_cannot_split_is_not_split() -> None:
    lack = place(BIG, small_ones(READ))
    assert isinstance(lack, NoPlace)
    assert lack.missing_bytes == pytest.approx(3.2 * GIB)
    assert "this version cannot run it as a pipeline split" in lack.reason


@pytest.mark.usefixtures("split_nothing")
def test_why_a_model_has_no_place_is_said_once_and_taken_back() -> None:
    state = small_ones(READ)
    [said] = heal(state, Ripe())
    assert isinstance(said, ModelUnplaced)
    assert said.missing_bytes > 0
    assert "bytes of memory and has" in said.reason
    state = after(state, said)
    assert state.models[BIG.id].unplaced == said.reason
    assert heal(state, Ripe()) == []
    state = healed(after(state, joined("large")), Ripe())
    assert [instance.nodes for instance in state.instances.values()] == [{NodeId("large")}]
    assert (state.models[BIG.id].unplaced, state.models[BIG.id].missing_bytes) == ("", 0)


@pytest.mark.usefixtures("split_nothing")
def test_what_a_lost_node_carried_and_has_no_place_is_said() -> None:
    state = healed(small_ones(READ, joined("large")), Ripe())
    lost = NodeLost(node=NodeId("large"), incarnation="one", why="its lease ran out")
    [said] = heal(after(state, lost), Ripe())
    assert isinstance(said, ModelUnplaced)
    assert said.missing_bytes > 0
    back = healed(after(state, lost, said, joined("large", incarnation="two")), Ripe())
    assert back.models[BIG.id].unplaced == ""


def test_nodes_that_may_come_back_are_no_lack_of_memory() -> None:
    [said] = heal(after(State(), ModelDesired(spec=BIG)), Ripe())
    assert isinstance(said, ModelUnplaced)
    assert (said.absent, said.missing_bytes) == (True, 0)


@pytest.mark.usefixtures("split_everything")
def test_a_model_that_was_read_after_it_was_placed_is_moved_before_it_loads() -> None:
    state = healed(small_ones(), Ripe())
    [scout] = state.instances.values()
    assert len(scout.shards) == 1
    [moved] = heal(after(state, READ), Ripe())
    assert isinstance(moved, InstanceRetried)
    assert (moved.attempt, {shard.node for shard in moved.shards}) == (2, {N1, N2})
    assert heal(after(state, READ, moved), Ripe()) == []


@pytest.mark.usefixtures("split_nothing")
def test_one_that_turns_out_too_large_is_taken_away_and_the_reason_said() -> None:
    state = after(healed(small_ones(), Ripe()), READ)
    [gone] = heal(state, Ripe())
    assert isinstance(gone, InstanceDeleted)
    state = healed(after(state, gone), Ripe())
    assert not state.instances
    assert state.models[BIG.id].missing_bytes > 0


@pytest.mark.usefixtures("split_everything")
def test_one_that_was_to_be_split_by_hand_is_split_when_it_was_read() -> None:
    """Though it has room whole on the node that read it."""
    spec = ModelSpec(id=BIG.id, source=BIG.source, split=(Share(node=N2), Share(node=N1)))
    state = healed(after(State(), joined("n1"), joined("n2"), ModelDesired(spec=spec)), Ripe())
    assert [len(scout.shards) for scout in state.instances.values()] == [1]
    state = healed(after(state, READ), Ripe())
    assert [(one.split, one.nodes) for one in state.instances.values()] == [("pipeline", {N1, N2})]


def test_among_equals_the_node_that_has_the_files_is_taken() -> None:
    complete = DownloadReported(node=N2, model=BIG.id, source=BIG.source, status="complete")
    state = after(State(), joined("n1"), joined("n2"), ModelDesired(spec=BIG), complete, READ)  # type: ignore[arg-type]
    placed = place(BIG, state)
    assert isinstance(placed, Placement) and placed.shards[0].node == N2


def test_one_that_fits_where_it_is_stays() -> None:
    state = after(healed(after(State(), joined("large"), ModelDesired(spec=BIG)), Ripe()), READ)
    assert heal(state, Ripe()) == []


def free_bytes_of_n1(state: State) -> int:
    question = ask(BIG, state)
    assert not isinstance(question, NoPlace)
    return next(machine.free_bytes for machine in question.topology.machines if machine.node == N1)


@pytest.mark.usefixtures("split_everything")
def test_a_shard_takes_its_part_of_a_nodes_memory() -> None:
    state = small_ones(READ)
    half = (Shard(node=N1, rank=1, layers=(0, 4)), Shard(node=N2, layers=(4, 8)))
    before = free_bytes_of_n1(state)
    state = after(state, InstancePlaced(instance=InstanceId("i"), spec=BIG, shards=half, split="pipeline"))
    assert before - free_bytes_of_n1(state) == pytest.approx(4.8 * GIB)


HYBRID = msgspec.structs.replace(BIG, strategy="hybrid")


def four(*more: Any) -> State:
    nodes = (joined(name, **SMALL) for name in ("n1", "n2", "n3", "n4"))
    return after(State(), *nodes, ModelDesired(spec=HYBRID), READ, *more)


def test_ranks_of_a_hybrid_go_stage_by_stage_and_0_and_1_have_the_last_layers() -> None:
    cuts = {"n3": (0, 4), "n1": (0, 4), "n2": (4, 8), "n4": (4, 8)}
    shares = tuple(Share(node=NodeId(name), layers=cut) for name, cut in cuts.items())
    spec = msgspec.structs.replace(HYBRID, split=shares)
    placed = place(spec, four())
    assert isinstance(placed, Placement)
    assert placed.split == "hybrid"
    assert [(shard.node, shard.rank, shard.layers) for shard in placed.shards] == [
        (node, rank, cut) for (node, cut), rank in zip(cuts.items(), (3, 2, 1, 0), strict=True)
    ]
    state = four(InstancePlaced(instance=InstanceId("i"), spec=spec, shards=placed.shards, split="hybrid"))
    taken = free_bytes_of_n1(four()) - free_bytes_of_n1(state)
    assert taken == pytest.approx(2.4 * GIB), "half of four layers"


OLDER = joined("old", splits=(), roles=("api",))


def test_while_a_node_of_an_older_version_is_there_no_hybrid_is_made() -> None:
    """It could not read where that is; and of the wish no more than of the place."""
    said = "node old runs an older version, which knows no hybrids"
    lack = place(HYBRID, four(OLDER))
    assert isinstance(lack, NoPlace) and said in lack.reason
    auto = msgspec.structs.replace(BIG, min_nodes=4)
    shown = preview(auto, four(OLDER))
    assert [said in one.reason for one in shown.refused if one.split == "hybrid"] == [True]
    assert {plan.split for plan in shown.plans} == {"pipeline", "tensor"}
    assert "hybrid" in {plan.split for plan in preview(auto, four()).plans}
    refused = decide(after(State(), OLDER), LoadModel(spec=HYBRID))
    assert isinstance(refused, Refused) and refused.code == "conflict" and said in refused.reason
    gone = four(OLDER, NodeLost(node=NodeId("old"), incarnation="one", why="its lease ran out"))
    assert isinstance(place(HYBRID, gone), Placement)


def test_excluded_nodes_carry_nothing() -> None:
    spec = ModelSpec(id=BIG.id, source=BIG.source, exclude=(N1,))
    placed = place(spec, after(State(), joined("n1"), joined("n2")))
    assert isinstance(placed, Placement) and placed.shards[0].node == N2
    lack = place(spec, after(State(), joined("n1")))
    assert isinstance(lack, NoPlace) and "besides those that are excluded" in lack.reason


def test_nodes_are_called_by_their_names_but_by_those_that_several_have() -> None:
    twin = joined("n3", name="zeus"), joined("n4", name="zeus")
    state = after(State(), joined("n1", name="hera"), joined("n2", name="ares"), *twin)
    nodes = [Share(node=NodeId(f"n{at}")) for at in (1, 3)]
    for excluded, said in zip(nodes, ("node hera of the split", "node n3 of the split"), strict=True):
        wish = msgspec.structs.replace(BIG, split=tuple(nodes), exclude=(excluded.node,))
        refused = decide(state, LoadModel(spec=wish))
        assert isinstance(refused, Refused) and said in refused.reason
    state = after(state, NodeLost(node=N2, incarnation="one", why="its lease ran out"))
    lack = place(msgspec.structs.replace(BIG, node=N2), state)
    assert isinstance(lack, NoPlace) and "may only run on node ares" in lack.reason


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"strategy": "pipeline", "node": N1}, "node says that only n1 may carry it"),
        ({"strategy": "whole", "min_nodes": 2}, "strategy is whole"),
        ({"node": N1, "exclude": (N1,)}, "n1 is in exclude as well"),
        ({"exclude": (NodeId("n3"),)}, "there is no node n3"),
        ({"engine": "simulated", "min_nodes": 2}, "`simulated` is not split"),
        ({"simulated": SimulatedSpeed()}, "simulated speeds are for"),
        ({"engine": "simulated", "draft": "hf:o/draft"}, "`simulated` has no draft"),
        ({"draft": "hf:o/draft", "min_nodes": 2}, "a model with a draft is not split"),
        ({"split": (Share(node=N1),)}, "split names one node"),
        ({"split": (Share(node=N1), Share(node=N1))}, "names node n1 twice"),
        ({"split": (Share(node=N1), Share(node=N2)), "exclude": (N2,)}, "n2 of the split is in exclude"),
        ({"split": (Share(node=N1), Share(node=N2)), "min_nodes": 3}, "min_nodes is 3"),
        ({"split": (Share(node=N1, layers=(0, 2)), Share(node=N2))}, "layers to some nodes"),
        ({"split": (Share(node=N1, layers=(0, 2)), Share(node=N2, layers=(3, 4)))}, "each layer to one node"),
        ({"split": (Share(node=N1, layers=(0, 2)), Share(node=N2, layers=(2, 2)))}, "each layer to one node"),
        ({"split": (Share(node=N1, layers=(0, 2)), Share(node=N2, layers=(2, 4))), "strategy": "tensor"}, "leave out the layers"),
    ],
)  # fmt: skip
def test_wishes_against_each_other_are_refused(wishes: Any, said: str) -> None:
    refused = decide(small_ones(), LoadModel(spec=ModelSpec(id=BIG.id, source=BIG.source, **wishes)))
    assert isinstance(refused, Refused)
    assert said in refused.reason


@pytest.mark.usefixtures("split_everything")
def test_a_preview_begins_with_what_the_leader_would_do() -> None:
    state = small_ones(READ)
    shown = preview(BIG, state)
    placed = place(BIG, state)
    assert isinstance(placed, Placement)
    assert [part.node for part in shown.plans[0].parts] == [shard.node for shard in placed.shards]
    assert {(one.split, one.missing_bytes > 0) for one in shown.refused} >= {("whole", True)}


@pytest.mark.parametrize(
    ("spec", "more", "said"),
    [
        (BIG, (), "nobody has read its files yet"),
        (ModelSpec(id=BIG.id, source=BIG.source, engine="simulated"), (READ,), "it is simulated"),
        (ModelSpec(id=BIG.id, source=BIG.source, node=NodeId("n9")), (READ,), "n9, which is not there"),
    ],
)
def test_what_cannot_be_predicted_is_said(spec: ModelSpec, more: Any, said: str) -> None:
    shown = preview(spec, small_ones(*more))
    assert shown.plans == ()
    assert said in shown.refused[0].reason


def test_a_model_has_room_where_its_draft_has_room_too() -> None:
    spec = msgspec.structs.replace(BIG, source="hf:o/half", draft="hf:o/draft")
    half = msgspec.structs.replace(CARD, weights_bytes=4 * GIB, layer_bytes=(GIB,) * 4)
    read = ModelDescribed(model=spec.id, source=spec.source, card=half)
    state = after(State(), joined("n1", **SMALL), ModelDesired(spec=spec), read)
    before = place(spec, state)
    assert isinstance(before, Placement)
    placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=before.shards)
    alone = free_bytes_of_n1(after(state, placed))
    draft = msgspec.structs.replace(CARD, weights_bytes=2 * GIB, layer_bytes=(GIB,) * 2)
    state = after(state, placed, ModelDescribed(model=spec.draft_id, source="hf:o/draft", card=draft))
    assert alone - free_bytes_of_n1(state) >= 2 * GIB
    assert any(isinstance(event, InstanceDeleted | InstanceRetried) for event in heal(state, Ripe()))
    assert isinstance(place(spec, state, but=InstanceId("i")), NoPlace)


@pytest.mark.usefixtures("split_everything")
def test_a_model_with_a_draft_is_not_split() -> None:
    spec = msgspec.structs.replace(BIG, draft="hf:o/draft")
    assert isinstance(place(spec, small_ones(READ)), NoPlace)
