"""What placing a model would come to: plans with what they promise, and those that cannot be, with the reason."""

from msgspec import Struct

from schemas.ids import ModelId, NodeId
from schemas.instance import Split


class Burden(Struct, frozen=True, kw_only=True):
    """What one node would carry."""

    node: NodeId
    layers: tuple[int, int] | None = None
    """First layer that it would have, and the one after its last; None: all of them, or a part of each."""
    memory_bytes: int
    """Weights, keys and values, and what computing takes besides."""
    free_bytes: int
    """What models may still fill on that node now."""
    fetch_bytes: int = 0
    """What it would have to fetch first."""


class Plan(Struct, frozen=True, kw_only=True):
    """One way to place a copy. All speeds are predicted."""

    split: Split
    parts: tuple[Burden, ...]
    """In the order of the layers."""
    tokens_s: float
    """Tokens a second of one sequence alone."""
    full_tokens_s: float
    """Tokens a second of all sequences together when every slot is taken."""
    ttft_s: float
    """From a prompt of 512 tokens to the first token, seconds."""


class RefusedPlan(Struct, frozen=True, kw_only=True):
    """A way that there is not, and why."""

    split: Split
    reason: str
    nodes: tuple[NodeId, ...] = ()
    """Whom it is about; empty: any."""
    missing_bytes: int = 0
    """Memory that would have to be free besides; 0: memory is not what is missing."""


class Previews(Struct, frozen=True, kw_only=True, tag=True):
    """To `PreviewModel`: the first plan is what the leader would do; without plans it would do nothing."""

    model: ModelId
    plans: tuple[Plan, ...]
    refused: tuple[RefusedPlan, ...]
