"""The best hybrids: pipelines whose stages are pairs of machines, each of which has half of each layer."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

from actors.placement.carrier import carriers, room
from actors.placement.costs import Step, exchange_s, layers_s, work_of
from actors.placement.paths import Best, Search
from actors.placement.shape import NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology

FEW = 16
"""Of so many machines each may be paired with each."""
NEIGHBOURS = 8
"""Of more one is paired with one of so many that come after it in the order of room, or of speed."""

Pair = tuple[Machine, Machine]


def hybrids(shape: Shape, topology: Topology, step: Step) -> Best:
    """The hybrids of two or more pairs with the least time of `step`."""
    found = carriers(shape, topology, step, _pairs(shape, topology, step))
    return Search(shape, topology, step, found).run(most=shape.layers)


def _pairs(shape: Shape, topology: Topology, step: Step) -> Iterable[Pair]:
    """All of few machines; of many two matchings: no other leaves more room than the first, the second one's are quick."""
    smallest = min(shape.layer_memory(layer) for layer in range(shape.layers))
    roomy = [one for one in topology.machines if 2 * room(shape, [one]) >= smallest]
    if len(roomy) <= FEW:
        return permutations(roomy, 2)
    matched = dict.fromkeys([*by_room(shape, topology, roomy), *_by_speed(shape, topology, roomy, step)])
    return [pair for one, other in matched for pair in ((one, other), (other, one))]


def by_room(shape: Shape, topology: Topology, machines: Iterable[Machine]) -> Iterator[Pair]:
    """The roomiest with the next one that it reaches, and so on."""
    roomiest = sorted(machines, key=lambda one: -room(shape, [one]))
    return _disjoint(pair for pair in _near(roomiest) if not topology.is_cut(pair[0].node, pair[1].node))


def _by_speed(shape: Shape, topology: Topology, machines: Sequence[Machine], step: Step) -> Iterator[Pair]:
    """Always the pair that is quickest of those who are left."""
    work, size = work_of(shape, step), step.tokens * shape.hidden * NUMBER_BYTES
    alone = {one.node: sum(layers_s(work, one, 2)) for one in machines}

    def seconds(pair: Pair) -> float:
        halves = max(alone[one.node] for one in pair)
        return halves + 2 * shape.layers * exchange_s(topology, pair, size)

    return _disjoint(sorted(_near(sorted(machines, key=lambda one: alone[one.node])), key=seconds))


def _near(machines: Sequence[Machine]) -> Iterator[Pair]:
    for at, one in enumerate(machines):
        for other in machines[at + 1 : at + 1 + NEIGHBOURS]:
            yield one, other


def _disjoint(pairs: Iterable[Pair]) -> Iterator[Pair]:
    taken: set[str] = set()
    for one, other in pairs:
        if one.node not in taken and other.node not in taken:
            taken |= {one.node, other.node}
            yield one, other
