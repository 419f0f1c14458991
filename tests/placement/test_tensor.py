"""Tensor groups against trying every group; few machines, so that the search is the same, and many, so that it is not."""

from itertools import combinations

import pytest
from hypothesis import given, settings

from actors.placement.costs import ONE, layers_s, tensor_s, work_of
from actors.placement.shape import Shape
from actors.placement.tensor import sizes, tensor_group
from actors.placement.topology import Machine, Topology
from schemas.ids import NodeId
from tests.placement.machines import shapes, topologies


@settings(max_examples=100, deadline=None)
@given(shapes, topologies(at_most=5))
def test_the_group_is_the_best_that_has_room(shape: Shape, topology: Topology) -> None:
    for ranks in sizes(shape, 5):
        assert shape.heads % ranks == 0 and shape.kv_heads % ranks == 0
        need = shape.memory_bytes(0, shape.layers, ranks)
        groups = [
            group
            for group in combinations(topology.machines, ranks)
            if all(need * machine.growth <= machine.free_bytes for machine in group)
        ]
        found = tensor_group(shape, topology, ranks, ONE)
        assert (found is None) == (not groups)
        if found is not None:
            least = min(tensor_s(shape, topology, group, ONE) for group in groups)
            assert tensor_s(shape, topology, found, ONE) == pytest.approx(least)


def test_a_rank_reads_its_part_as_fast_as_it_reads_so_few_bytes() -> None:
    """8 layers of 100 bytes: of two ranks each reads 400, of four 200."""
    shape = Shape(layer_bytes=(100,) * 8, outer_bytes=0, head_bytes=0, hidden=4, heads=8, kv_heads=8)
    machine = Machine(
        node=NodeId("n"),
        free_bytes=10**9,
        read_bytes_s=100,
        shared_bytes_s={2: 200, 4: 400}.__getitem__,
        flop_s=1e12,
    )
    seconds = [sum(layers_s(work_of(shape, ONE), machine, ranks)) for ranks in (1, 2, 4)]
    assert seconds == pytest.approx([8, 2, 0.5], rel=1e-3)


def test_among_many_the_fast_ones_are_found() -> None:
    shape = Shape(layer_bytes=(100,) * 8, outer_bytes=0, head_bytes=0, hidden=4, heads=8, kv_heads=8)
    machines = tuple(
        Machine(node=NodeId(f"n{i}"), free_bytes=10**9, read_bytes_s=1e6 if i % 16 else 1e9, flop_s=1e12)
        for i in range(128)
    )
    group = tensor_group(shape, Topology(machines), 8, ONE)
    assert group is not None
    assert {machine.node for machine in group} == {f"n{i}" for i in range(0, 128, 16)}
