"""The best ways through a model's layers over carriers of any kind in any order: dynamic programming.

A path says for each number of layers how soon the carriers that it has been through, of which one is the last, have
computed so many. Lengthening it by a carrier takes one pass over the layers. With up to `ALL` machines every path is
followed, so that the result is the best there is; with more, only those paths and carriers that promise most.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf

from msgspec import Struct

from actors.placement.carrier import Carrier
from actors.placement.costs import Stage, Step, back_s, hop_s
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology
from schemas.ids import NodeId

ALL = 6
"""So many machines are tried in every order."""
WIDTH, FANOUT = 6, 10
"""Paths that are followed when there are more machines, and carriers that each of them is lengthened by."""
LONG = 5
"""Where it takes more machines than this, fewer paths are followed, so that the time for all of them stays what it is."""
PATIENCE = 2
"""With more machines, stages are added until so many more made nothing better."""

Best = dict[int, tuple[float, tuple[Stage, ...]]]
"""By the number of stages: seconds of a step, and the stages."""


class _Path(Struct, frozen=True):
    """`cost[layers]` is the least time for so many layers; `origin[layers]` is where the last carrier took over."""

    used: int
    start: Machine
    """Where it begins, and where what was drawn goes back to."""
    last: int
    cost: list[float]
    origin: list["tuple[_Path | None, int]"]


class Search:
    """Among carriers some of which may have machines in common."""

    def __init__(self, shape: Shape, topology: Topology, step: Step, carriers: Sequence[Carrier]) -> None:
        self._layers, self._carriers = shape.layers, carriers
        self._shape, self._topology, self._step = shape, topology, step
        self._sizes = list(accumulate((shape.layer_memory(each) for each in range(shape.layers)), initial=0))
        self._hops: dict[tuple[int, int], float] = {}
        self._rates = [carrier.seconds[-1] / max(1, self._sizes[-1]) for carrier in carriers]
        """Seconds for a byte of layers."""
        self._by_rate = sorted(range(len(carriers)), key=lambda index: self._rates[index])
        self._follows_all = len({one.node for carrier in carriers for one in carrier.machines}) <= ALL
        thin = max(1.0, self._fewest() / LONG)
        self._width, self._fanout = max(1, int(WIDTH / thin)), max(3, int(FANOUT / thin))

    def run(self, most: int) -> Best:
        """The best for each number of stages, from two to `most`, that there is any of."""
        best: Best = {}
        paths, least, disappointments = self._kept(self._begin(self._first_ones())), inf, 0
        for count in range(2, most + 1):
            paths = self._kept(
                [path for index in self._next_ones(paths) for path in self._lengthen(paths, index)]
            )
            if not paths:
                break
            found = min(paths, key=self._seconds)
            seconds = self._seconds(found)
            if seconds < inf:
                best[count] = seconds, self._stages(found)
                disappointments = 0 if seconds < least else disappointments + 1
                least = min(least, seconds)
            if not self._follows_all and disappointments >= PATIENCE:
                break
        return best

    def in_order(self) -> tuple[Stage, ...] | None:
        """The best cuts for a path through all carriers as they come; None when the layers have no room there, or links
        are cut."""
        paths = self._begin([0])
        for index in range(1, len(self._carriers)):
            paths = self._lengthen(paths, index)
        return self._stages(paths[0]) if paths and self._seconds(paths[0]) < inf else None

    def _begin(self, indices: Sequence[int]) -> list[_Path]:
        """Paths of one carrier."""
        paths: list[_Path] = []
        for index in indices:
            carrier = self._carriers[index]
            before = [inf] * (self._layers + 1)
            before[0] = carrier.inner_s
            start = carrier.machines[0]
            paths += self._taken_over(0, start, index, before, [None] * (self._layers + 1))
        return paths

    def _lengthen(self, paths: Sequence[_Path], index: int) -> list[_Path]:
        """Every path that has not been there goes on to carrier `index`; paths through the same machines become one."""
        groups: dict[tuple[int, NodeId], list[_Path]] = {}
        for path in paths:
            if not path.used & self._carriers[index].used:
                groups.setdefault((path.used, path.start.node), []).append(path)
        longer: list[_Path] = []
        for (used, _), group in groups.items():
            longer += self._taken_over(used, group[0].start, index, *self._soonest(group, index))
        return longer

    def _stages(self, path: _Path) -> tuple[Stage, ...]:
        """The stages of all layers along `path`, the first layers first."""
        found: list[Stage] = []
        at: _Path | None = path
        end = self._layers
        while at is not None:
            before, first = at.origin[end]
            found.append(Stage(self._carriers[at.last].machines, first, end))
            at, end = before, first
        return tuple(reversed(found))

    def _soonest(self, group: Sequence[_Path], index: int) -> "tuple[list[float], list[_Path | None]]":
        """When each number of layers is computed and has come to carrier `index`, and along which path."""
        hop = self._hop(group[0].last, index)
        before = [cost + hop for cost in group[0].cost]
        origin: list[_Path | None] = [group[0]] * (self._layers + 1)
        for path in group[1:]:
            hop = self._hop(path.last, index)
            for layer, cost in enumerate(path.cost):
                if cost + hop < before[layer]:
                    before[layer], origin[layer] = cost + hop, path
        return before, origin

    def _taken_over(
        self,
        used: int,
        start: Machine,
        index: int,
        before: list[float],
        origin: "Sequence[_Path | None]",
    ) -> list[_Path]:
        """The path with carrier `index` after what took `before`; none when no layer has room on it.

        For each end the best beginning lies in a window that memory bounds and that only moves on, so that its
        minimum is kept in a queue of candidates.
        """
        carrier = self._carriers[index]
        seconds, sizes, capacity = carrier.seconds, self._sizes, carrier.capacity
        ahead = [cost - spent for cost, spent in zip(before, seconds, strict=True)]
        cost = [inf] * (self._layers + 1)
        came: list[tuple[_Path | None, int]] = [(None, 0)] * (self._layers + 1)
        window: deque[int] = deque()
        begun = next((layer for layer, spent in enumerate(ahead) if spent < inf), self._layers)
        for end in range(begun + 1, self._layers + 1):
            while window and ahead[window[-1]] >= ahead[end - 1]:
                window.pop()
            window.append(end - 1)
            while window and sizes[end] - sizes[window[0]] > capacity:
                window.popleft()
            if window and ahead[window[0]] < inf:
                first = window[0]
                cost[end] = ahead[first] + seconds[end]
                came[end] = origin[first], first
        return [_Path(used | carrier.used, start, index, cost, came)] if min(cost) < inf else []

    def _seconds(self, path: _Path) -> float:
        """For all layers, the head and the way back; infinite where its last machine could not be joined to its first one,
        as the ranks of a group are."""
        last = self._carriers[path.last]
        return path.cost[-1] + last.head_s + back_s(self._topology, last.machines[-1], path.start, self._step)

    def _fewest(self) -> int:
        """Machines that there must be at least for room."""
        left, count = self._sizes[-1], 0
        roomiest = sorted(range(len(self._carriers)), key=lambda index: -self._carriers[index].capacity)
        for index in self._apart(roomiest):
            if left <= 0:
                break
            left -= self._carriers[index].capacity
            count += len(self._carriers[index].machines)
        return count

    def _apart(self, indices: Iterable[int], used: int = 0) -> Iterator[int]:
        """Those in which none of the machines is that were `used`, or came before."""
        for index in indices:
            if not used & self._carriers[index].used:
                used |= self._carriers[index].used
                yield index

    def _hop(self, start: int, end: int) -> float:
        """From one carrier to the next, and on within that one."""
        known = self._hops.get((start, end))
        if known is None:
            last, first = self._carriers[start].machines[-1], self._carriers[end].machines[0]
            known = hop_s(self._shape, self._topology, last, first, self._step) + self._carriers[end].inner_s
            self._hops[start, end] = known
        return known

    def _first_ones(self) -> Sequence[int]:
        return self._by_rate if self._follows_all else self._by_rate[: 2 * FANOUT]

    def _next_ones(self, paths: Sequence[_Path]) -> Sequence[int]:
        """Carriers to go on to: all of them, or the fastest and the nearest of each path."""
        if self._follows_all:
            return self._by_rate
        return list(dict.fromkeys(index for path in paths for index in self._nearest(path)))

    def _nearest(self, path: _Path) -> list[int]:
        """The `fanout` carriers with the lowest price; one that is too slow without the way to it is asked no more."""
        found: list[tuple[float, int, int]] = []
        for place, index in enumerate(self._by_rate):
            if len(found) == self._fanout and self._rates[index] >= found[-1][0]:
                break
            if not path.used & self._carriers[index].used:
                insort(found, (self._price(path.last, index), place, index))
                del found[self._fanout :]
        return [index for _, _, index in found]

    def _price(self, start: int, index: int) -> float:
        """Seconds for a byte on carrier `index`, with the way to it."""
        carried = min(self._carriers[index].capacity, self._sizes[-1])
        return self._rates[index] + self._hop(start, index) / carried if carried > 0 else inf

    def _kept(self, paths: list[_Path]) -> list[_Path]:
        if self._follows_all:
            return paths
        return sorted(paths, key=self._promise)[: self._width]

    def _promise(self, path: _Path) -> float:
        """The time for all layers if the fastest carriers that are left took what the path leaves."""
        reached = next(end for end in range(self._layers, -1, -1) if path.cost[end] < inf)
        seconds, left = path.cost[reached], self._sizes[-1] - self._sizes[reached]
        for index in self._apart(self._by_rate, path.used):
            if left <= 0:
                break
            taken = min(left, self._carriers[index].capacity)
            seconds += taken * self._rates[index]
            left -= taken
        return seconds if left <= 0 else inf
