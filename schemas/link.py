"""What lies between two nodes: measured, never guessed once it is known."""

from msgspec import Struct

from schemas.ids import NodeId


class Link(Struct, frozen=True, kw_only=True):
    """The way from one node to another, as programs meet it (TCP included)."""

    from_node: NodeId
    to_node: NodeId
    latency_s: float
    """Half a round trip of a small message, seconds."""
    bandwidth_bytes_s: float
    """Bytes a second of one long transfer."""
    address: str = ""
    """The address of `to_node` over which it was measured; empty: not said."""
    reachable: bool = True
    """False: both ends are there, and the link between them is cut; its numbers are 0."""
