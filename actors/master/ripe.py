"""What the leader knows besides the state: what has lasted for long enough, and what is in use."""

from msgspec import Struct

from schemas.ids import InstanceId, ModelId, NodeId


class Ripe(Struct, frozen=True):
    """Facts of this leader's own clock and ears; without them nothing is lost, nor idle."""

    lost: frozenset[NodeId] = frozenset()
    """Nodes that hold no lease."""
    failed: frozenset[InstanceId] = frozenset()
    """Failed instances whose backoff is over."""
    drained: frozenset[InstanceId] = frozenset()
    """Retired instances that know it, and have ended all that they had."""
    overdue: frozenset[InstanceId] = frozenset()
    """Retired instances that have had all the time there is for that."""
    idle: tuple[ModelId, ...] = ()
    """Models on demand that serve nobody at this moment and may be unloaded, the least recently used first."""
    unused: frozenset[ModelId] = frozenset()
    """Those of them that nobody has used for their idle time-out."""
