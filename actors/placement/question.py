"""What placement is asked."""

from collections.abc import Iterator

from msgspec import Struct

from actors.placement.costs import ONE, Step, full
from actors.placement.shape import Shape
from actors.placement.topology import Topology
from schemas.ids import NodeId
from schemas.instance import Split
from schemas.model import ModelSpec
from schemas.plan import Plan, RefusedPlan

Found = Iterator[Plan | RefusedPlan]


def knows_none(node: NodeId) -> str:
    """Why there is no hybrid while `node` is there."""
    return f"node {node} runs an older version, which knows no hybrids: start it again with this one"


class Question(Struct, frozen=True):
    """What is to be placed, where, and how it may be split; machines in the order in which whole copies prefer them."""

    shape: Shape
    topology: Topology
    spec: ModelSpec
    splits: frozenset[Split]
    older: NodeId | None = None
    """A member whose version knows no hybrids: it could not read where they are."""

    def fewest(self, width: int = 1) -> int:
        """Parts that a split copy has at least, each of them on `width` machines."""
        return max(2, -(-self.spec.min_nodes // width))

    @property
    def step(self) -> Step:
        """What the time is minimised of."""
        return ONE if self.spec.objective == "latency" else full(self.shape)
