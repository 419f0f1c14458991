"""Generated topologies and shapes, and the plain search that placement is compared with."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, pairwise, permutations
from math import inf
from operator import mul

from hypothesis import strategies as st

from actors.placement.costs import Stage, Step, pipeline_s
from actors.placement.shape import ACTIVATION_TOKENS, ACTIVATIONS, NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology
from schemas.ids import NodeId
from schemas.link import Link

ACTIVATION_BYTES = ACTIVATION_TOKENS * ACTIVATIONS * NUMBER_BYTES
"""Of a shape whose `hidden` is 1."""
bytes_s = st.sampled_from([1e3, 3e3, 1e4, 1e5])


def machines(at_most: int, at_least: int) -> st.SearchStrategy[tuple[Machine, ...]]:
    one = st.tuples(
        st.integers(0, 60), bytes_s, bytes_s, st.sampled_from([0.0, 0.01]), st.sampled_from([1.0, 2.0])
    )
    return st.lists(one, min_size=at_least, max_size=at_most).map(
        lambda rows: tuple(
            Machine(
                node=NodeId(f"n{index}"),
                free_bytes=int((ACTIVATION_BYTES + free) * growth),
                read_bytes_s=read,
                shared_bytes_s=partial(mul, read) if index % 2 else None,
                flop_s=flop,
                layer_s=layer,
                growth=growth,
            )
            for index, (free, read, flop, layer, growth) in enumerate(rows)
        )
    )


@st.composite
def topologies(draw: st.DrawFn, at_most: int, at_least: int = 1) -> Topology:
    """One link of eight is cut, in some of them."""
    there = draw(machines(at_most, at_least))
    reachable = st.sampled_from([True] * draw(st.sampled_from([1, 7])) + [False] * draw(st.integers(0, 1)))
    links: dict[tuple[NodeId, NodeId], Link] = {}
    for one, other in permutations(there, 2):
        measured = draw(st.one_of(st.none(), st.tuples(st.floats(0, 0.1), st.sampled_from([1e2, 1e4, 1e8]))))
        if measured is not None:
            latency, bandwidth = measured
            links[one.node, other.node] = Link(
                from_node=one.node,
                to_node=other.node,
                latency_s=latency,
                bandwidth_bytes_s=bandwidth,
                reachable=draw(reachable),
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
    need = shape.memory_bytes(stage.first, stage.end, len(stage.machines))
    return all(need * machine.growth <= machine.free_bytes for machine in stage.machines)


def every_pipeline(
    shape: Shape, topology: Topology, count: int, width: int = 1
) -> Iterator[tuple[Stage, ...]]:
    """All that have room, and whose neighbours in the ring reach each other: `count` stages of `width` machines, in every
    order, with every cut."""
    for chosen in permutations(topology.machines, count * width):
        ring = pairwise([*chosen, chosen[0]])
        if any(topology.is_cut(one.node, other.node) for one, other in ring):
            continue
        for cuts in combinations(range(1, shape.layers), count - 1):
            ends = [0, *cuts, shape.layers]
            stages = tuple(
                Stage(chosen[i * width : i * width + width], ends[i], ends[i + 1]) for i in range(count)
            )
            if all(fits(shape, stage) for stage in stages):
                yield stages


def least_s(shape: Shape, topology: Topology, found: Iterator[Sequence[Stage]], step: Step) -> float:
    return min((pipeline_s(shape, topology, stages, step) for stages in found), default=inf)


def require_whole(shape: Shape, stages: Sequence[Stage], count: int) -> None:
    """Every layer once, in `count` stages that have room, on as many machines as there are places."""
    machines = [machine.node for stage in stages for machine in stage.machines]
    assert len(stages) == count and len(set(machines)) == len(machines)
    assert all(fits(shape, stage) for stage in stages)
    assert [stage.first for stage in stages] == [0, *(stage.end for stage in stages[:-1])]
    assert stages[-1].end == shape.layers
