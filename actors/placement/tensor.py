"""The best groups of machines that each compute a part of every layer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import comb

from actors.placement.costs import Step, member_s, sums_s, work_of
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology
from schemas.split import tensor_fits

ALL = 200
"""So many groups are tried one by one."""
SEEDS, NEIGHBOURS = 4, 16
"""With more, groups grow from so many of the fastest machines, each by those of the fastest that suit it best."""

Group = tuple[Machine, ...]
Cost = Callable[[Group], float]


def sizes(shape: Shape, most: int) -> list[int]:
    """Numbers of ranks, two and more, that divide heads and heads of keys and values."""
    if not (shape.heads and shape.kv_heads):
        return []
    return [ranks for ranks in range(2, most + 1) if tensor_fits(shape.heads, shape.kv_heads, ranks)]


def tensor_group(shape: Shape, topology: Topology, ranks: int, step: Step) -> Group | None:
    """The `ranks` machines with the least time for `step`; None when there are not so many with room."""
    need = shape.memory_bytes(0, shape.layers, ranks)
    roomy = [machine for machine in topology.machines if machine.free_bytes >= need * machine.growth]
    work = work_of(shape, step)
    alone = {machine.node: member_s(shape, machine, step, work, ranks) for machine in roomy}

    def cost(group: Group) -> float:
        computing = max(alone[machine.node] for machine in group)
        return computing + sums_s(shape, topology, group, step)

    roomy.sort(key=lambda machine: alone[machine.node])
    return min(_groups(roomy, ranks, cost), key=cost, default=None)


def _groups(fastest: Sequence[Machine], ranks: int, cost: Cost) -> Iterator[Group]:
    if comb(len(fastest), ranks) <= ALL:
        yield from combinations(fastest, ranks)
        return
    for seed in fastest[:SEEDS]:
        group = (seed,)
        while len(group) < ranks:
            others = [one for one in fastest[: max(ranks, NEIGHBOURS)] if one not in group]
            group = min(((*group, one) for one in others), key=cost)
        yield group
