"""Who brings which piece of a model from outside: one node a piece, by compare-and-set on the bus."""

from typing import TypeVar

import msgspec
from msgspec import Struct

from bus.bucket import Bucket, Entry
from bus.connection import Connection
from bus.errors import Fenced
from bus.streams import Streams
from schemas.ids import NodeId
from schemas.manifest import Manifest
from schemas.unreadable import UNREADABLE

T = TypeVar("T", bound=Struct)


class Claim(Struct, frozen=True):
    """The node that has, or brings, one piece; `revision` is what a taker-over must name."""

    node: NodeId
    revision: int = 0


class Claims:
    """The bucket `troupe_fetches`; keys are digests. Raises `BusAway` while it cannot be reached."""

    def __init__(self, connection: Connection, cluster: str) -> None:
        self._bucket = Bucket(connection, Streams(cluster).fetches)

    async def take(self, key: str, node: NodeId, over: Claim | None = None) -> Claim:
        """The claim on `key` as it is now: ours if nobody had one, if we had it, or if it still was `over`.

        A claim of ours is written anew, so that who has just found us without the piece cannot take it over.
        """
        while True:
            found = await self._bucket.get(key)
            held = _decoded(found, Claim)
            if held is not None and held.node != node and (over is None or over.revision != found.revision):
                return Claim(held.node, found.revision)
            try:
                return Claim(node, await self._bucket.put(key, Claim(node), found.revision))
            except Fenced:
                over = None

    async def agree(self, key: str, manifest: Manifest) -> Manifest:
        """The manifest that all who ask at about the same time take for the same source: the first one's."""
        found = await self._bucket.get(key)
        agreed = _decoded(found, Manifest)
        if agreed is not None:
            return agreed
        try:
            await self._bucket.put(key, manifest, found.revision, ttl_s=AGREED_S)
        except Fenced:
            return _decoded(await self._bucket.get(key), Manifest) or manifest
        return manifest


AGREED_S = 60
"""Nodes that are to serve the same model ask what it consists of within this time; seconds."""


def _decoded(entry: Entry, kind: type[T]) -> T | None:
    """None where nothing stands, or somebody else's garbage."""
    try:
        return None if entry.value is None else msgspec.json.decode(entry.value, type=kind)
    except UNREADABLE:
        return None
