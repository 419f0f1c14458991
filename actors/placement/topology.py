"""The machines that may carry a model, and what lies between them."""

from collections.abc import Callable, Iterable, Mapping
from math import inf

from msgspec import Struct

from schemas.ids import NodeId
from schemas.link import Link
from schemas.state import Download

UNMEASURED_LATENCY_S = 0.0003
UNMEASURED_BANDWIDTH_BYTES_S = 1e8
"""A link that nobody has measured is taken for gigabit Ethernet."""


class Machine(Struct, frozen=True, kw_only=True):
    """What one node offers to one more model."""

    node: NodeId
    free_bytes: int
    read_bytes_s: float
    """Weights that it goes through in a second, when it has all of them."""
    shared_bytes_s: Callable[[int], float] | None = None
    """And when so many ranks share them: its caches hold more of a part. None: as of all."""
    flop_s: float
    layer_s: float = 0.0
    """What each layer costs in each step besides reading and computing, seconds."""
    score_s: float = 0.0
    """What a token of a prompt takes to look at another, in each head, seconds."""
    growth: float = 1.0
    """The engine computes in float32 on a CPU: there weights of half precision take twice their bytes."""
    files: Download | None = None
    """What is on its disk of the model's files."""

    def reading_bytes_s(self, ranks: int) -> float:
        """Weights that it goes through in a second as one of so many ranks that each have a part of every layer."""
        if ranks == 1 or self.shared_bytes_s is None:
            return self.read_bytes_s
        return self.shared_bytes_s(ranks)

    def has(self, layers: tuple[int, int] | None) -> bool:
        """Whether nothing need be fetched for these layers (None: for all)."""
        return self.files is not None and self.files.covers(layers)


class Topology(Struct, frozen=True):
    """Machines by their place in `machines`, links by the names of their ends."""

    machines: tuple[Machine, ...]
    links: Mapping[tuple[NodeId, NodeId], Link] = {}

    def is_cut(self, one: NodeId, other: NodeId) -> bool:
        """Whether either of them could not reach the other, though both were there."""
        ways = (self.links.get((one, other)), self.links.get((other, one)))
        return any(link is not None and not link.reachable for link in ways)

    def why_severed(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> str:
        """Empty when no link between any of these is cut."""
        cut = (
            f"the link between {one} and {other} is cut" for one, other in pairs if self.is_cut(one, other)
        )
        return next(cut, "")

    def crossing_s(self, start: NodeId, end: NodeId, size: float) -> float:
        """Seconds for `size` bytes; a way that was measured in the other direction only is taken as equal; never over a
        cut one."""
        there, back = self.links.get((start, end)), self.links.get((end, start))
        link = there or back
        if link is None:
            return UNMEASURED_LATENCY_S + size / UNMEASURED_BANDWIDTH_BYTES_S
        if not link.reachable or (back is not None and not back.reachable):
            return inf
        return link.latency_s + size / max(1.0, link.bandwidth_bytes_s)
