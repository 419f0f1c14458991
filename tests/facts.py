"""Facts and things that many tests need, with harmless values."""

from schemas.events import NodeJoined
from schemas.ids import NodeId
from schemas.node import NodeProfile
from schemas.split import SPLITS

GIB = 1024**3


def profile(memory_bytes: int = 16 * GIB) -> NodeProfile:
    return NodeProfile(hostname="host", platform="linux-x86_64", cores=2, memory_bytes=memory_bytes)


def joined(node: str, incarnation: str = "one", **more: object) -> NodeJoined:
    values: dict[str, object] = {
        "node": NodeId(node),
        "incarnation": incarnation,
        "name": node,
        "profile": profile(),
        "roles": ("master", "worker", "api"),
        "version": "0.1.0",
        "splits": SPLITS,
        **more,
    }
    return NodeJoined(**values)  # type: ignore[arg-type]  # the values are those of the struct
