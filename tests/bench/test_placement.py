"""Placement of one model among many nodes of all kinds: how long the leader thinks."""

import random
import time
from collections.abc import Callable
from functools import partial

import pytest

from actors.placement.costs import ONE
from actors.placement.hybrid import hybrids
from actors.placement.pipeline import pipelines
from actors.placement.plans import choose
from actors.placement.question import Question
from actors.placement.shape import Shape
from actors.placement.tensor import tensor_group
from actors.placement.topology import Machine, Topology
from schemas.ids import ModelId, NodeId
from schemas.instance import Split
from schemas.link import Link
from schemas.model import ModelSpec
from schemas.plan import Plan
from tests.bench.table import Table, ms

pytestmark = pytest.mark.bench

GROUP = "Placement, 128 nodes"
GIB = 2**30


def cluster(nodes: int, free_gib: float) -> Topology:
    chance = random.Random(1)
    machines = tuple(
        Machine(
            node=NodeId(f"n{index}"),
            free_bytes=int(free_gib * GIB * chance.uniform(0.5, 1.5)),
            read_bytes_s=chance.uniform(1e10, 4e11),
            flop_s=chance.uniform(1e11, 1e13),
            layer_s=2e-4,
        )
        for index in range(nodes)
    )
    links = {
        (one.node, other.node): Link(
            from_node=one.node,
            to_node=other.node,
            latency_s=chance.uniform(1e-4, 1e-2),
            bandwidth_bytes_s=chance.uniform(1e7, 1e9),
        )
        for one in machines
        for other in machines
    }
    return Topology(machines, links)


def shape(layers: int, gib: int) -> Shape:
    return Shape(
        layer_bytes=(gib * GIB // layers,) * layers,
        outer_bytes=2 * GIB,
        head_bytes=GIB,
        hidden=8192,
        heads=64,
        kv_heads=8,
        token_cache_bytes=4096,
        layer_cache_bytes=GIB // 20,
    )


SIZES = [(80, 140, 400), (80, 140, 40), (80, 140, 14), (128, 800, 40)]
SPREAD: frozenset[Split] = frozenset({"pipeline", "tensor", "hybrid"})


@pytest.mark.parametrize(("layers", "gib", "free_gib"), SIZES)
def test_stages(table: Table, layers: int, gib: int, free_gib: float) -> None:
    model, nodes = shape(layers, gib), cluster(128, free_gib)
    for name, search in (("pipelines", pipelines), ("hybrids", hybrids)):
        found = search(model, nodes, ONE)
        took = least_s(partial(search, model, nodes, ONE))
        what = f"{name}, {gib} GiB in {layers} layers, {free_gib} GiB free"
        seconds = min(seconds for seconds, _ in found.values())
        table.add(GROUP, what, ms(took), "", f"{min(found)} stages or more, {seconds:.2f} s a token")


@pytest.mark.parametrize(("layers", "gib", "free_gib"), SIZES)
def test_the_choice(table: Table, layers: int, gib: int, free_gib: float) -> None:
    """Of all splits."""
    spec = ModelSpec(id=ModelId("m"), source="hf:o/m", min_nodes=2)
    asked = Question(shape(layers, gib), cluster(128, free_gib), spec, SPREAD)
    plan = choose(asked)
    assert isinstance(plan, Plan)
    what = f"all splits, {gib} GiB in {layers} layers, {free_gib} GiB free"
    note = f"{plan.split} of {len(plan.parts)}, {1 / plan.tokens_s:.2f} s a token"
    table.add(GROUP, what, ms(least_s(partial(choose, asked))), "100 ms", note)


def least_s(search: Callable[[], object]) -> float:
    took: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        search()
        took.append(time.perf_counter() - began)
    return min(took)


def test_tensor_groups(table: Table) -> None:
    model, nodes = shape(80, 140), cluster(128, 100)
    began = time.perf_counter()
    assert tensor_group(model, nodes, 8, ONE)
    table.add(GROUP, "a tensor group of 8", ms(time.perf_counter() - began), "100 ms")
