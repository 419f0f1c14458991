"""What a node is told about fetching models."""

from pathlib import Path

from msgspec import Struct

from actors.downloader.sources.bucket import BucketAccess
from actors.downloader.sources.colleagues import Colleagues
from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.machine.addresses import LOOPBACK


class Supply(Struct, frozen=True, kw_only=True):
    """Where models come from, and within which bounds."""

    hub: HubAccess = HubAccess()
    buckets: BucketAccess = BucketAccess()
    peer_host: str = LOOPBACK
    """Where this node serves its files to the others."""
    peer_port: int = 0
    offline: bool = False
    """Nothing is fetched from outside of the cluster."""
    bytes_s: float = 0
    """Most bytes a second from outside; 0: no bound."""
    max_bytes: int = 0
    """Most bytes of models on this node's disk; 0: no bound."""
    verify_always: bool = False
    """Read every byte at each start of a model, not only what has been written to."""

    def shelf(self, models_dir: Path, colleagues: Colleagues) -> Shelf:
        """The folder of models, within these bounds."""
        return Shelf(
            models_dir,
            colleagues=colleagues,
            bytes_s=self.bytes_s,
            max_bytes=self.max_bytes,
            offline=self.offline,
            verify_always=self.verify_always,
        )
