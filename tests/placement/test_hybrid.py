"""Hybrids against trying everything, on small topologies; among many machines, what has to be found."""

import random
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.placement.costs import ONE, Step, full, pipeline_s
from actors.placement.hybrid import hybrids
from actors.placement.pipeline import in_order
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology
from schemas.ids import NodeId
from schemas.link import Link
from tests.placement.machines import every_pipeline, least_s, require_whole, shapes, topologies

few_layers = shapes.map(lambda shape: msgspec.structs.replace(shape, layer_bytes=shape.layer_bytes[:4]))


@settings(max_examples=120, deadline=None)
@given(few_layers, topologies(at_least=4, at_most=6), st.sampled_from([ONE, Step(512, 1, 0), full]))
def test_the_best_of_each_length_is_the_best_there_is(shape: Shape, topology: Topology, step: object) -> None:
    run = step if isinstance(step, Step) else full(shape)
    found = hybrids(shape, topology, run)
    assert not found.keys() - {2, 3}
    for count in range(2, len(topology.machines) // 2 + 1):
        least = least_s(shape, topology, every_pipeline(shape, topology, count, width=2), run)
        if count not in found:
            assert least == inf
            continue
        seconds, stages = found[count]
        require_whole(shape, stages, count)
        assert all(len(stage.machines) == 2 for stage in stages)
        assert seconds == pytest.approx(pipeline_s(shape, topology, stages, run), rel=1e-9)
        assert seconds == pytest.approx(least, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(shapes, topologies(at_least=4, at_most=4))
def test_the_best_cuts_for_pairs_as_they_come(shape: Shape, topology: Topology) -> None:
    a, b, c, d = topology.machines
    stages = in_order(shape, topology, ONE, [(a, b), (c, d)])
    every = every_pipeline(shape, Topology((a, b, c, d), topology.links), 2, width=2)
    least = least_s(
        shape, topology, (one for one in every if [each.machines for each in one] == [(a, b), (c, d)]), ONE
    )
    if stages is None:
        assert least == inf
    else:
        require_whole(shape, stages, 2)
        assert pipeline_s(shape, topology, stages, ONE) == pytest.approx(least, rel=1e-9)


def many(*, near: int) -> Topology:
    """64 machines; `n0` and `n1`, `n2` and `n3` ... are close to each other, as are the ends of these pairs up to `near`."""
    order = list(range(64))
    random.Random(1).shuffle(order)
    machines = tuple(
        Machine(node=NodeId(f"n{i}"), free_bytes=1000, read_bytes_s=1e6 if i >= near else 1e7, flop_s=1e12)
        for i in order
    )
    links = {
        (one.node, other.node): Link(
            from_node=one.node,
            to_node=other.node,
            latency_s=1e-6 if int(one.node[1:]) // 2 == int(other.node[1:]) // 2 else 1e-4,
            bandwidth_bytes_s=1e9,
        )
        for one in machines
        for other in machines
    }
    return Topology(machines, links)


def test_among_many_the_fast_ones_are_found_and_those_that_are_close_are_paired() -> None:
    """Seven layers of 400 bytes are 200 for one of a pair."""
    shape = Shape(layer_bytes=(400,) * 7, outer_bytes=0, head_bytes=0, hidden=0, heads=8, kv_heads=8)
    best = hybrids(shape, many(near=6), ONE)
    assert min(best) == 2
    stages = best[2][1]
    fast = {tuple(sorted(machine.node for machine in stage.machines)) for stage in stages}
    assert fast < {("n0", "n1"), ("n2", "n3"), ("n4", "n5")}


def test_among_many_those_with_the_most_room_are_paired_where_room_is_scarce() -> None:
    """In a shuffled order of speeds every roomy machine has a small neighbour; only the roomy ones together have room."""
    machines = tuple(
        Machine(node=NodeId(f"n{i}"), free_bytes=100 if i % 9 else 1000, read_bytes_s=1e6 + i, flop_s=1e12)
        for i in range(36)
    )
    shape = Shape(layer_bytes=(500,) * 7, outer_bytes=0, head_bytes=0, heads=8, kv_heads=8)
    best = hybrids(shape, Topology(machines), ONE)
    [(_, stages)] = best.values()
    assert {one.node for stage in stages for one in stage.machines} == {"n0", "n9", "n18", "n27"}
