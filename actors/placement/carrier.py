"""Who may have a stage of a pipeline: one machine, or a pair that shares it."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import floor, inf

from msgspec import Struct

from actors.placement.costs import Step, head_s, hop_s, shared_s, work_of
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology


class Carrier(Struct, frozen=True):
    """Who may have a stage, with sums over the layers before each."""

    machines: tuple[Machine, ...]
    used: int
    """A bit for each machine."""
    seconds: list[float]
    capacity: float
    """Bytes of layers that it has room for."""
    head_s: float
    """Of its last machine, which has it to itself."""
    inner_s: float
    """For handing over among its machines."""


def carriers(
    shape: Shape, topology: Topology, step: Step, groups: Iterable[tuple[Machine, ...]]
) -> list[Carrier]:
    """Those groups of machines, in their order, that have room for a layer and whose members reach each other."""
    work, bits = work_of(shape, step), {one.node: 1 << at for at, one in enumerate(topology.machines)}
    smallest = min(shape.layer_memory(layer) for layer in range(shape.layers))
    found: list[Carrier] = []
    known: dict[int, list[float]] = {}
    for group in groups:
        used, capacity = sum(bits[one.node] for one in group), room(shape, group)
        if used not in known:  # in either order of a pair they are the same
            layers = shared_s(shape, topology, group, step, work)
            known[used] = list(accumulate(layers, initial=0.0))
        if capacity >= smallest and known[used][-1] < inf:
            inner_s = sum(hop_s(shape, topology, one, other, step) for one, other in pairwise(group))
            head = head_s(shape, group[-1], step)
            found.append(Carrier(group, used, known[used], capacity, head, inner_s))
    return found


def room(shape: Shape, group: Sequence[Machine]) -> int:
    """Bytes of layers that machines have room for which each take an equal part of them."""
    return len(group) * max(0, min(floor(one.free_bytes / one.growth) - shape.fixed_bytes for one in group))
