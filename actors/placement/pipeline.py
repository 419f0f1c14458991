"""The best pipelines over machines of any kind in any order: dynamic programming over layers and machines.

A `Path` says for each number of layers how soon the machines that it has been through, of which one is the last,
have computed so many. Lengthening it by a machine takes one pass over the layers. With up to `ALL` machines every path
is followed, so that the result is the best there is; with more, only those paths and machines that promise most.
"""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import inf

from msgspec import Struct

from actors.placement.costs import Stage, Step, head_s, hop_s, layer_s
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology

ALL = 6
"""So many machines are tried in every order."""
WIDTH, FANOUT = 6, 10
"""Paths that are followed when there are more machines, and machines that each of them is lengthened by."""
LONG = 5
"""With more stages than this, fewer paths are followed, so that the time for all of them stays what it is."""
PATIENCE = 2
"""With more machines, stages are added until so many more made nothing better."""


class Pipelines(Struct, frozen=True):
    """The best stages for each number of machines that has any."""

    best: dict[int, tuple[float, tuple[Stage, ...]]]
    """Seconds of a step, and the stages."""


class _Member(Struct, frozen=True):
    """A machine, with sums over the layers before each."""

    machine: Machine
    seconds: list[float]
    bytes: list[float]
    capacity: float
    """Bytes of layers that it has room for."""

    @property
    def rate(self) -> float:
        """Seconds for a byte of layers."""
        return self.seconds[-1] / max(1.0, self.bytes[-1])


class _Path(Struct, frozen=True):
    """`cost[layers]` is the least time for so many layers; `origin[layers]` is where the last machine took over."""

    used: int
    """A bit for each machine."""
    last: int
    cost: list[float]
    origin: list["tuple[_Path | None, int]"]


def pipelines(shape: Shape, topology: Topology, step: Step, most: int | None = None) -> Pipelines:
    """The pipelines of two or more machines with the least time of `step`."""
    return _Search(shape, topology, step).run(min(most or shape.layers, shape.layers, len(topology.machines)))


def in_order(shape: Shape, topology: Topology, step: Step) -> tuple[Stage, ...] | None:
    """The best cuts for a pipeline through all machines as they come; None when the layers have no room there."""
    search = _Search(shape, topology, step)
    paths = search.begin([0])
    for index in range(1, len(topology.machines)):
        paths = search.lengthen(paths, index)
    return search.stages(paths[0]) if paths and paths[0].cost[-1] < inf else None


class _Search:
    def __init__(self, shape: Shape, topology: Topology, step: Step) -> None:
        self.layers = shape.layers
        self.members = [_member(shape, machine, step) for machine in topology.machines]
        self.heads = [head_s(shape, machine, step) for machine in topology.machines]
        self._shape, self._topology, self._step = shape, topology, step
        self._cuts = not all(link.reachable for link in topology.links.values())
        self._hops: dict[tuple[int, int], float] = {}
        smallest = min(shape.layer_memory(layer) for layer in range(shape.layers))
        useful = [index for index, member in enumerate(self.members) if member.capacity >= smallest]
        self._by_rate = sorted(useful, key=lambda index: self.members[index].rate)
        self._follows_all = len(useful) <= ALL
        thin = max(1.0, self._fewest() / LONG)
        self._width, self._fanout = max(1, int(WIDTH / thin)), max(3, int(FANOUT / thin))

    def run(self, most: int) -> Pipelines:
        best: dict[int, tuple[float, tuple[Stage, ...]]] = {}
        paths, least, disappointments = self._kept(self.begin(self._first_ones())), inf, 0
        for count in range(2, most + 1):
            paths = self._kept(
                [path for index in self._next_ones(paths) for path in self.lengthen(paths, index)]
            )
            if not paths:
                break
            found = min(paths, key=lambda path: (self._is_open(path), path.cost[-1]))
            if found.cost[-1] < inf:
                best[count] = found.cost[-1], self.stages(found)
                disappointments = 0 if found.cost[-1] < least else disappointments + 1
                least = min(least, found.cost[-1])
            if not self._follows_all and disappointments >= PATIENCE:
                break
        return Pipelines(best)

    def begin(self, indices: Sequence[int]) -> list[_Path]:
        """Paths of one machine."""
        paths: list[_Path] = []
        for index in indices:
            before = [inf] * (self.layers + 1)
            before[0] = self.heads[index]
            paths += self._taken_over(0, index, before, [None] * (self.layers + 1))
        return paths

    def lengthen(self, paths: Sequence[_Path], index: int) -> list[_Path]:
        """Every path that has not been there goes on to machine `index`; paths through the same machines become one."""
        groups: dict[int, list[_Path]] = {}
        for path in paths:
            if not path.used >> index & 1:
                groups.setdefault(path.used, []).append(path)
        longer: list[_Path] = []
        for used, group in groups.items():
            before = [inf] * (self.layers + 1)
            origin: list[_Path | None] = [None] * (self.layers + 1)
            self._soonest(group, index, before, origin)
            longer += self._taken_over(used, index, before, origin)
        return longer

    def stages(self, path: _Path) -> tuple[Stage, ...]:
        """The stages of all layers along `path`, the first layers first."""
        found: list[Stage] = []
        at: _Path | None = path
        end = self.layers
        while at is not None:
            before, first = at.origin[end]
            found.append(Stage(self.members[at.last].machine, first, end))
            at, end = before, first
        return tuple(reversed(found))

    def _soonest(
        self, group: Sequence[_Path], index: int, before: list[float], origin: "list[_Path | None]"
    ) -> None:
        for path in group:
            hop = self._hop(path.last, index)
            for layer, cost in enumerate(path.cost):
                if cost + hop < before[layer]:
                    before[layer], origin[layer] = cost + hop, path

    def _taken_over(
        self, used: int, index: int, before: list[float], origin: "Sequence[_Path | None]"
    ) -> list[_Path]:
        """The path with machine `index` after what took `before`; none when no layer has room on it.

        For each end the best beginning lies in a window that memory bounds and that only moves on, so that its
        minimum is kept in a queue of candidates.
        """
        member = self.members[index]
        seconds, sizes, capacity = member.seconds, member.bytes, member.capacity
        ahead = [cost - spent for cost, spent in zip(before, seconds, strict=True)]
        cost = [inf] * (self.layers + 1)
        came: list[tuple[_Path | None, int]] = [(None, 0)] * (self.layers + 1)
        window: deque[int] = deque()
        for end in range(1, self.layers + 1):
            while window and ahead[window[-1]] >= ahead[end - 1]:
                window.pop()
            window.append(end - 1)
            while window and sizes[end] - sizes[window[0]] > capacity:
                window.popleft()
            if window and ahead[window[0]] < inf:
                first = window[0]
                cost[end] = ahead[first] + seconds[end]
                came[end] = origin[first], first
        return [_Path(used | 1 << index, index, cost, came)] if min(cost) < inf else []

    def _is_open(self, path: _Path) -> bool:
        """Whether its last machine could not be joined to its first one, as the ranks of a group are."""
        if not self._cuts or path.cost[-1] == inf:
            return False
        nodes = [stage.machine.node for stage in self.stages(path)]
        return self._topology.is_cut(nodes[0], nodes[-1])

    def _fewest(self) -> int:
        """Stages that there must be at least for room."""
        roomiest = accumulate(sorted((member.capacity for member in self.members), reverse=True))
        need = self.members[0].bytes[-1] if self.members else 0
        return 1 + sum(room < need for room in roomiest)

    def _hop(self, start: int, end: int) -> float:
        known = self._hops.get((start, end))
        if known is None:
            one, other = self.members[start].machine, self.members[end].machine
            known = self._hops[start, end] = hop_s(self._shape, self._topology, one, other, self._step)
        return known

    def _first_ones(self) -> Sequence[int]:
        return self._by_rate if self._follows_all else self._by_rate[: 2 * FANOUT]

    def _next_ones(self, paths: Sequence[_Path]) -> Sequence[int]:
        """Machines to go on to: all of them, or the fastest and the nearest of each path."""
        if self._follows_all:
            return self._by_rate
        promising: dict[int, None] = {}
        for path in paths:
            free = [index for index in self._by_rate if not path.used >> index & 1]
            free.sort(key=lambda index: self._price(path.last, index))
            promising |= dict.fromkeys(free[: self._fanout])
        return list(promising)

    def _price(self, start: int, index: int) -> float:
        """Seconds for a byte on machine `index`, with the way to it."""
        member = self.members[index]
        carried = min(member.capacity, member.bytes[-1])
        return member.rate + self._hop(start, index) / carried if carried > 0 else inf

    def _kept(self, paths: list[_Path]) -> list[_Path]:
        if self._follows_all:
            return paths
        return sorted(paths, key=self._promise)[: self._width]

    def _promise(self, path: _Path) -> float:
        """The time for all layers if the fastest machines that are left took what the path leaves."""
        reached = max(end for end, cost in enumerate(path.cost) if cost < inf)
        seconds, sizes = path.cost[reached], self.members[path.last].bytes
        left = sizes[-1] - sizes[reached]
        for index in self._by_rate:
            if left <= 0:
                break
            if not path.used >> index & 1:
                member = self.members[index]
                taken = min(left, member.capacity)
                seconds += taken * member.rate
                left -= taken
        return seconds if left <= 0 else inf


def _member(shape: Shape, machine: Machine, step: Step) -> _Member:
    layers = range(shape.layers)
    return _Member(
        machine=machine,
        seconds=list(accumulate((layer_s(shape, machine, layer, step) for layer in layers), initial=0.0)),
        bytes=list(accumulate((float(shape.layer_memory(layer)) for layer in layers), initial=0.0)),
        capacity=max(0.0, machine.free_bytes / machine.growth - shape.fixed_bytes),
    )
