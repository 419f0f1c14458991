"""A model that is placed on nodes: where its shards are and how far it has come."""

from typing import Literal

from msgspec import Struct

from schemas.ids import InstanceId, NodeId
from schemas.model import ModelSpec

InstanceStatus = Literal["placed", "starting", "loading", "warming", "ready", "failed"]
Split = Literal["whole", "pipeline", "tensor", "hybrid"]
"""What the ranks of an instance share out: nothing (there is one), the layers, the insides of each layer, or both: pairs of
ranks share out the layers, and the two of a pair the insides of each."""
RunnerStatus = Literal["starting", "loading", "warming", "ready", "failed"]
Fate = Literal["", "left", "killed", "fell"]
"""How a runner's process ended: told to; by SIGKILL, which may be anybody's or the system's short of memory; by
itself, in a crash. Empty: not known, or there was no process."""


class Shard(Struct, frozen=True, kw_only=True):
    """One rank of an instance, carried by one runner process."""

    node: NodeId
    rank: int = 0
    layers: tuple[int, int] | None = None
    """First layer that it has, and the one after its last; None: all of them."""


class Instance(Struct, frozen=True, kw_only=True):
    """One placed copy of a model.

    `attempt` counts the lives of its runners: what a runner of an earlier attempt says no longer counts.
    `failures` counts failures in a row, forgotten when a life was long and healthy.
    """

    seq: int
    id: InstanceId
    spec: ModelSpec
    shards: tuple[Shard, ...]
    split: Split = "whole"
    attempt: int = 1
    status: InstanceStatus = "placed"
    reason: str = ""
    """Why it failed, or why it was placed again."""
    diagnostics: str = ""
    """The last lines that a failed runner wrote to its stderr."""
    retryable: bool = True
    failures: int = 0
    slots: int = 0
    """Requests that a ready instance takes at once."""
    ready_at: float = 0.0
    fate: Fate = ""
    """How the process of its last life ended; it stays known while the next life begins."""
    served: bool = False
    """It was ready once: answers may have been begun by it."""
    retired: str = ""
    """Why it takes no fresh requests any more, and is deleted when it has ended its last; empty: it serves."""

    @property
    def nodes(self) -> frozenset[NodeId]:
        return frozenset(shard.node for shard in self.shards)
