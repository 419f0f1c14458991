"""Dynamic programming against trying everything, on all small topologies that hypothesis can think of."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.placement.costs import ONE, Step, full, pipeline_s
from actors.placement.pipeline import in_order, pipelines
from actors.placement.shape import Shape
from actors.placement.topology import Topology
from tests.placement.machines import every_pipeline, least_s, require_whole, shapes, topologies

steps = st.sampled_from([ONE, Step(512, 1, 0), full])


@settings(max_examples=150, deadline=None)
@given(shapes, topologies(at_most=5), steps)
def test_the_best_of_each_length_is_the_best_there_is(shape: Shape, topology: Topology, step: object) -> None:
    run = step if isinstance(step, Step) else full(shape)
    found = pipelines(shape, topology, run)
    for count in range(2, len(topology.machines) + 1):
        least = least_s(shape, topology, every_pipeline(shape, topology, count), run)
        if count not in found:
            assert least == inf
            continue
        seconds, stages = found[count]
        require_whole(shape, stages, count)
        assert seconds == pytest.approx(pipeline_s(shape, topology, stages, run), rel=1e-9)
        assert seconds == pytest.approx(least, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(shapes, topologies(at_most=3))
def test_the_best_cuts_for_machines_as_they_come(shape: Shape, topology: Topology) -> None:
    there = topology.machines
    stages = in_order(shape, topology, ONE, [(machine,) for machine in there])
    least = least_s(
        shape,
        topology,
        (
            found
            for found in every_pipeline(shape, topology, len(there))
            if tuple(stage.machines[0] for stage in found) == there
        ),
        ONE,
    )
    if stages is None:
        assert least == inf
    else:
        assert tuple(stage.machines[0] for stage in stages) == there
        assert pipeline_s(shape, topology, stages, ONE) == pytest.approx(least, rel=1e-9)
