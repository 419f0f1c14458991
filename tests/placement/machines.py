"""Generated topologies and shapes, and the plain search that placement is compared with."""

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from math import inf

from hypothesis import strategies as st

from actors.placement.costs import Stage, Step, pipeline_s
from actors.placement.shape import ACTIVATION_TOKENS, ACTIVATIONS, NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology
from schemas.ids import NodeId
from schemas.link import Link

ACTIVATION_BYTES = ACTIVATION_TOKENS * ACTIVATIONS * NUMBER_BYTES
"""Of a shape whose `hidden` is 1."""
bytes_s = st.sampled_from([1e3, 3e3, 1e4, 1e5])


def machines(at_most: int) -> st.SearchStrategy[tuple[Machine, ...]]:
    one = st.tuples(
        st.integers(0, 60), bytes_s, bytes_s, st.sampled_from([0.0, 0.01]), st.sampled_from([1.0, 2.0])
    )
    return st.lists(one, min_size=1, max_size=at_most).map(
        lambda rows: tuple(
            Machine(
                node=NodeId(f"n{index}"),
                free_bytes=int((ACTIVATION_BYTES + free) * growth),
                read_bytes_s=read,
                flop_s=flop,
                layer_s=layer,
                growth=growth,
            )
            for index, (free, read, flop, layer, growth) in enumerate(rows)
        )
    )


@st.composite
def topologies(draw: st.DrawFn, at_most: int) -> Topology:
    there = draw(machines(at_most))
    links: dict[tuple[NodeId, NodeId], Link] = {}
    for one, other in permutations(there, 2):
        measured = draw(st.one_of(st.none(), st.tuples(st.floats(0, 0.1), st.sampled_from([1e2, 1e4, 1e8]))))
        if measured is not None:
            latency, bandwidth = measured
            links[one.node, other.node] = Link(
                from_node=one.node, to_node=other.node, latency_s=latency, bandwidth_bytes_s=bandwidth
            )
    return Topology(there, links)


shapes = st.builds(
    Shape,
    layer_bytes=st.lists(st.integers(1, 30), min_size=1, max_size=7).map(tuple),
    outer_bytes=st.integers(0, 10),
    head_bytes=st.integers(0, 10),
    read_share=st.sampled_from([1.0, 0.25]),
    weight_bytes=st.sampled_from([0.5, 2.0, 4.0]),
    hidden=st.just(1),
    heads=st.sampled_from([4, 6]),
    kv_heads=st.sampled_from([2, 3, 4]),
    token_cache_bytes=st.integers(0, 1),
    layer_cache_bytes=st.integers(0, 5),
    slots=st.integers(1, 4),
)


def fits(shape: Shape, stage: Stage) -> bool:
    return shape.memory_bytes(stage.first, stage.end) * stage.machine.growth <= stage.machine.free_bytes


def every_pipeline(shape: Shape, topology: Topology, count: int) -> Iterator[tuple[Stage, ...]]:
    """All that have room: every order of every `count` machines, every cut."""
    for chosen in permutations(topology.machines, count):
        for cuts in combinations(range(1, shape.layers), count - 1):
            ends = [0, *cuts, shape.layers]
            stages = tuple(Stage(machine, ends[i], ends[i + 1]) for i, machine in enumerate(chosen))
            if all(fits(shape, stage) for stage in stages):
                yield stages


def least_s(shape: Shape, topology: Topology, found: Iterator[Sequence[Stage]], step: Step) -> float:
    return min((pipeline_s(shape, topology, stages, step) for stages in found), default=inf)
