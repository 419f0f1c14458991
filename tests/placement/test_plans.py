"""Plans and refusals for clusters that can be counted by hand."""

from typing import Any

import msgspec
import pytest

from actors.placement.plans import choose, previews
from actors.placement.question import Question
from actors.placement.shape import Shape, shape_of
from actors.placement.topology import Machine, Topology
from schemas.ids import ModelId, NodeId
from schemas.instance import Split
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec, Share
from schemas.plan import Plan, RefusedPlan
from schemas.state import Download

ALL: frozenset[Split] = frozenset({"whole", "pipeline", "tensor", "hybrid"})
SHAPE = Shape(layer_bytes=(10,) * 4, outer_bytes=5, head_bytes=5, heads=4, kv_heads=2, slots=2)
"""45 bytes whole; half of its layers are 25."""
A, B = NodeId("a"), NodeId("b")


def machine(name: str, free: int, speed: float = 10.0, **more: Any) -> Machine:
    return Machine(node=NodeId(name), free_bytes=free, read_bytes_s=speed, flop_s=1e12, **more)


def question(*machines: Machine, splits: frozenset[Split] = ALL, cut: str = "", **wishes: Any) -> Question:
    """`cut`: two letters, of nodes the first of which cannot reach the second."""
    links = {
        (one.node, other.node): Link(
            from_node=one.node,
            to_node=other.node,
            latency_s=0.5,
            bandwidth_bytes_s=1e9,
            reachable=one.node + other.node != cut,
        )
        for one in machines
        for other in machines
    }
    spec = ModelSpec(id=ModelId("m"), source="hf:o/m", **wishes)
    return Question(SHAPE, Topology(machines, links), spec, splits)


def files(*layers: tuple[int, int]) -> Download:
    return Download(
        seq=1, node=A, model=ModelId("m"), source="hf:o/m", status="complete", layers=layers or None
    )


def chosen(asked: Question) -> Plan:
    plan = choose(asked)
    assert isinstance(plan, Plan), plan
    assert plan == previews(asked)[0][0]
    return plan


def refused(asked: Question) -> RefusedPlan:
    plan = choose(asked)
    assert isinstance(plan, RefusedPlan), plan
    return plan


def test_what_fits_stays_whole_where_the_caller_prefers_it() -> None:
    plan = chosen(question(machine("a", 50), machine("b", 90, speed=100)))
    assert (plan.split, plan.parts[0].node, plan.parts[0].layers) == ("whole", A, None)
    assert (plan.parts[0].memory_bytes, plan.parts[0].free_bytes, plan.parts[0].fetch_bytes) == (45, 50, 45)
    assert plan.tokens_s == pytest.approx(1 / 4.5)  # 45 bytes at 10 a second
    assert plan.full_tokens_s == pytest.approx(2 / 4.5)


def test_what_fits_nowhere_is_split_and_the_fast_one_gets_what_it_can_hold() -> None:
    plan = chosen(question(machine("a", 25), machine("b", 35, speed=20), splits=ALL - {"tensor"}))
    assert [(part.node, part.layers) for part in plan.parts] == [(A, (0, 1)), (B, (1, 4))], (
        "the head is where the last layers are"
    )
    assert [part.memory_bytes for part in plan.parts] == [15, 35]
    assert plan.tokens_s == pytest.approx(1 / (10 / 10 + 30 / 20 + 5 / 20 + 2 * 0.5), rel=1e-4)


def test_tensor_ranks_have_a_part_of_each_layer() -> None:
    plan = chosen(question(machine("a", 25), machine("b", 25), strategy="tensor"))
    assert (plan.split, [part.memory_bytes for part in plan.parts]) == ("tensor", [25, 25])
    assert plan.tokens_s == pytest.approx(1 / (40 / 2 / 10 + 5 / 10 + (2 * 2 * 4 + 1) * 0.5), rel=1e-4)


def test_what_is_on_disk_need_not_be_fetched() -> None:
    plan = chosen(question(machine("a", 25, files=files()), machine("b", 25), strategy="pipeline"))
    assert {part.node: part.fetch_bytes for part in plan.parts} == {A: 0, B: 25}


@pytest.mark.parametrize(("layers", "fetched"), [((0, 2), 0), ((2, 4), 25)])
def test_layers_that_are_on_disk_need_not_be_fetched(layers: tuple[int, int], fetched: int) -> None:
    """`a` is to have the first two."""
    shares = (Share(node=A, layers=(0, 2)), Share(node=B, layers=(2, 4)))
    plan = chosen(question(machine("a", 25, files=files(layers)), machine("b", 25), split=shares))
    assert plan.parts[0].fetch_bytes == fetched
    whole = question(machine("a", 90, files=files(layers)))
    assert chosen(whole).parts[0].fetch_bytes == 45


def test_memory_that_is_missing_is_counted() -> None:
    lack = refused(question(machine("a", 15), machine("b", 25)))
    assert (lack.split, lack.missing_bytes) == ("pipeline", 10)
    assert "its layers need 40 bytes of memory, all nodes together have 30 left" in lack.reason
    whole = [one for one in previews(question(machine("a", 15)))[1] if one.split == "whole"]
    assert [(one.nodes, one.missing_bytes) for one in whole] == [((A,), 30)]


def test_half_precision_grows_on_a_cpu() -> None:
    assert refused(question(machine("a", 50, growth=2.0), strategy="whole")).missing_bytes == 40


@pytest.mark.parametrize(
    ("wishes", "splits", "said"),
    [
        ({"min_nodes": 3}, ALL, "pipeline: it takes 3 nodes, and there are 2"),
        ({"strategy": "tensor", "min_nodes": 3}, ALL, "no number from 3 to 2 divides both its 4 heads and its 2"),
        ({"strategy": "pipeline"}, frozenset({"whole"}), "this version cannot run it as a pipeline split"),
        ({"split": (Share(node=A), Share(node=NodeId("x")))}, ALL, "node x of the split may not carry it"),
        ({"split": (Share(node=A, layers=(0, 1)), Share(node=B, layers=(1, 9)))}, ALL, "ends at layer 9"),
        ({"split": (Share(node=A, layers=(0, 1)), Share(node=B, layers=(1, 4)))}, ALL, "b needs 35 bytes of memory and has 25"),
    ],
)  # fmt: skip
def test_wishes_that_cannot_be_met_are_refused(wishes: Any, splits: frozenset[Split], said: str) -> None:
    assert said in refused(question(machine("a", 25), machine("b", 25), splits=splits, **wishes)).reason


def test_a_split_by_hand_is_taken_as_it_is() -> None:
    shares = (Share(node=B, layers=(0, 1)), Share(node=A, layers=(1, 4)))
    plan = chosen(question(machine("a", 90, speed=100), machine("b", 90), split=shares))
    assert [(part.node, part.layers) for part in plan.parts] == [(B, (0, 1)), (A, (1, 4))]


def test_a_split_by_hand_without_layers_is_cut_as_it_suits() -> None:
    plan = chosen(
        question(machine("a", 35, speed=100), machine("b", 90), split=(Share(node=B), Share(node=A)))
    )
    assert [(part.node, part.layers) for part in plan.parts] == [(B, (0, 1)), (A, (1, 4))]


FOUR = tuple(machine(name, 40) for name in "abcd")


@pytest.mark.parametrize("cut", ["ab", "ba", "cd", "ad", "bd"])
def test_a_cut_link_joins_no_neighbours(cut: str) -> None:
    """Nor the last one and the first one, which are neighbours in the ring."""
    plan = chosen(question(*FOUR, cut=cut, strategy="pipeline", min_nodes=4))
    ring = "".join(part.node for part in (*plan.parts, plan.parts[0]))
    assert len(ring) == 5 and cut not in ring and cut[::-1] not in ring


def test_where_there_is_no_way_around_a_cut_link_it_is_named() -> None:
    three = question(*FOUR[:3], cut="ca", strategy="pipeline", min_nodes=3)
    assert "the link between a and c is cut" in refused(three).reason
    two = question(*FOUR[:2], cut="ab", strategy="pipeline", min_nodes=2)
    assert "the link between a and b is cut, and no order of 2 or more nodes" in refused(two).reason
    tensor = question(*FOUR[:2], cut="ab", strategy="tensor", min_nodes=2)
    assert "the link between a and b is cut" in refused(tensor).reason
    by_hand = question(*FOUR[:3], cut="ca", split=(Share(node=A), Share(node=B), Share(node=NodeId("c"))))
    assert "the link between c and a is cut" in refused(by_hand).reason
    assert len(chosen(question(*FOUR[:3], cut="ca", strategy="pipeline")).parts) == 2, "but two do"


HYBRID: dict[str, Any] = {"strategy": "hybrid"}
C, D = NodeId("c"), NodeId("d")
IN_PAIRS = (Share(node=D), Share(node=A), Share(node=C), Share(node=B))


def test_a_hybrid_has_half_of_each_layer_on_each_of_a_pair() -> None:
    plan = chosen(question(*(machine(name, 15) for name in "abcd"), **HYBRID))
    assert plan.split == "hybrid"
    assert [part.layers for part in plan.parts] == [(0, 2), (0, 2), (2, 4), (2, 4)]
    assert {(part.memory_bytes, part.fetch_bytes) for part in plan.parts} == {(15, 25)}
    halves, sums, hops = 4 * 5 / 10, 4 * 2 * 2 * 0.5, (3 + 1) * 0.5
    step = 5 / 10 + halves + sums + hops
    assert plan.tokens_s == pytest.approx(1 / step, rel=1e-4)
    piece = 2 * 5 / 10 + 2 * 2 * 2 * 0.5
    assert plan.ttft_s == pytest.approx(2 * piece + 3 * 0.5 + 3 * piece + step, rel=1e-3), "in four pieces"


def test_where_nothing_else_fits_a_hybrid_is_chosen() -> None:
    """A layer is 10 bytes, and 5 are outside: no node has room for a whole one, and 4 ranks do not divide 2 heads."""
    plan = chosen(question(*(machine(name, 14) for name in "abcdefgh")))
    assert (plan.split, len(plan.parts)) == ("hybrid", 8)


def test_the_fastest_split_may_be_a_hybrid() -> None:
    """Where ways take no time, and two nodes have no room for half of every layer."""
    machines = tuple(machine(name, 20, speed=1.0) for name in "abcd")
    base = question(*machines)
    near = {ends: msgspec.structs.replace(link, latency_s=0.0) for ends, link in base.topology.links.items()}
    asked = Question(SHAPE, Topology(machines, near), base.spec, base.splits)
    assert [plan.split for plan in previews(asked)[0]] == ["hybrid", "pipeline"]
    assert chosen(asked).tokens_s == pytest.approx(1 / (5 + 20), rel=1e-4)


def test_a_hybrid_by_hand_is_taken_as_it_is() -> None:
    machines = [machine(name, 25) for name in "abcd"]
    cuts = ((0, 1), (0, 1), (1, 4), (1, 4))
    shares = tuple(Share(node=one.node, layers=cut) for one, cut in zip(IN_PAIRS, cuts, strict=True))
    plan = chosen(question(*machines, split=shares, **HYBRID))
    assert [(part.node, part.layers) for part in plan.parts] == list(zip("dacb", cuts, strict=True))
    assert [part.memory_bytes for part in plan.parts] == [10, 10, 20, 20]
    free = chosen(question(machine("a", 10), *machines[1:], split=IN_PAIRS, **HYBRID))
    assert [part.node for part in free.parts] == list("dacb")
    assert [part.layers for part in free.parts] == list(cuts), "a has room for half of one layer"


@pytest.mark.parametrize(
    ("nodes", "free", "more", "said"),
    [
        ("abc", 25, {}, "hybrid: it takes 4 nodes, and there are 3"),
        ("abcd", 25, {"min_nodes": 5}, "hybrid: it takes 6 nodes, and there are 4"),
        ("abcd", 14, {}, "its layers need 40 bytes of memory, all nodes together have 36 left for layers where each takes"),
        ("abcdefghij", 25, {"min_nodes": 9}, "hybrid: it has 4 layers only"),
        ("abcd", 25, {"splits": frozenset({"whole", "pipeline"})}, "this version cannot run it as a hybrid split"),
        ("abcd", 25, {"backend": "jaccl"}, "hybrids are joined by ring alone, and jaccl was asked for"),
        ("abcd", 25, {"split": IN_PAIRS, "cut": "ac"}, "the link between a and c is cut"),
        ("abcd", 25, {"split": IN_PAIRS, "cut": "bd"}, "the link between b and d is cut"),
        ("abcd", 10, {"split": IN_PAIRS}, "its layers have no room on these nodes in this order"),
    ],
)  # fmt: skip
def test_hybrids_that_there_are_not_are_refused(nodes: str, free: int, more: Any, said: str) -> None:
    lack = refused(question(*(machine(name, free) for name in nodes), **HYBRID, **more))
    assert said in lack.reason


def test_heads_that_a_pair_cannot_share_make_no_hybrid() -> None:
    base = question(*FOUR, **HYBRID)
    odd = msgspec.structs.replace(SHAPE, heads=9, kv_heads=3)
    assert (
        "a pair cannot share its 9 heads and 3 heads of keys"
        in refused(msgspec.structs.replace(base, shape=odd)).reason
    )


@pytest.mark.parametrize("cut", ["ab", "ba", "cd", "ad", "bd"])
def test_a_cut_link_joins_no_neighbours_of_a_hybrid(cut: str) -> None:
    """Neither the two of a pair, nor two pairs, nor the last one and the first one."""
    plan = chosen(question(*FOUR, cut=cut, **HYBRID))
    ring = "".join(part.node for part in (*plan.parts, plan.parts[0]))
    assert len(ring) == 5 and cut not in ring and cut[::-1] not in ring


def test_throughput_may_ask_for_another_split_than_latency() -> None:
    """One reads fast, the other computes fast: for many sequences it is computing that takes the time."""
    reader = Machine(node=A, free_bytes=35, read_bytes_s=1e3, flop_s=10.0)
    thinker = Machine(node=B, free_bytes=35, read_bytes_s=1e2, flop_s=1e3)
    asked = {"strategy": "pipeline", "splits": ALL}
    shape = Shape(layer_bytes=(10,) * 4, outer_bytes=5, head_bytes=0, weight_bytes=100.0, slots=64)
    for objective, most in (("latency", A), ("throughput", B)):
        base = question(reader, thinker, objective=objective, **asked)
        plan = chosen(Question(shape, base.topology, base.spec, base.splits))
        assert max(plan.parts, key=lambda part: part.memory_bytes).node == most


CARD = ModelCard(
    architecture="llama", parameters=50, weights_bytes=100, vocabulary=8, context=10, eos_ids=(), artifact="",
    layer_bytes=(40, 40), outer_bytes=20, head_bytes=10, cache_bytes=3,
)  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "cache"),
    [
        ({}, 10),  # a fifth of the weights, for both layers
        ({"slots": 1}, 10),
        ({"slots": 2, "context": 5, "batch_bytes": 24}, 12),
        ({"slots": 2, "context": 5}, 30),  # as it was asked for
        ({"context": 8}, 24),  # one sequence at least
    ],
)
def test_the_cache_is_counted_as_it_was_asked_for_or_bounded(wishes: Any, cache: int) -> None:
    assert shape_of(CARD, ModelSpec(id=ModelId("m"), source="s", **wishes)).layer_cache_bytes == cache


def test_a_card_of_an_older_version_is_one_layer_with_a_fifth_more() -> None:
    old = ModelCard(
        architecture="llama",
        parameters=1,
        weights_bytes=100,
        vocabulary=8,
        context=9,
        eos_ids=(),
        artifact="",
    )
    assert shape_of(old, ModelSpec(id=ModelId("m"), source="s")).memory_bytes(0, 1) == 120
