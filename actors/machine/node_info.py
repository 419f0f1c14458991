"""What a running node writes into its data folder, so that commands on this machine find it."""

from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.ids import NodeId


class NodeInfo(Struct, frozen=True, kw_only=True):
    """The addresses of one running node; secret, as they hold the token where the bus has one."""

    node_id: NodeId
    pid: int
    nats_url: str
    api_url: str = ""
    """Empty when this node runs no API."""
    name: str = ""
    cluster: str = "troupe"
    version: str = ""
    join_url: str = ""
    """What other machines join with (`--join`), token and all; empty when this node accepts no peers."""


def read_node_info(file: Path) -> NodeInfo | None:
    """What `node.json` says; None when there is none, or none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=NodeInfo)
    except (OSError, msgspec.MsgspecError):
        return None
