"""The port to the other nodes of the cluster: who has what, and who brings what from outside."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from msgspec import Struct

from bus.claims import Claim
from schemas.ids import NodeId
from schemas.manifest import Manifest

Why = Literal["lacks", "coming", "away"]


class Sought(Struct, frozen=True):
    """One piece of a model, wherever it is."""

    source: str
    folder: str
    """How the model's folder is called, on every node alike."""
    commit: str
    file: str
    piece: int
    size: int


class Lack(Exception):
    """A node does not give a piece: it has none (`lacks`), will have it (`coming`), or does not answer (`away`)."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Delivered(Struct, frozen=True):
    """A piece on its way from another node."""

    digest: str
    """Its SHA-256 in hex."""
    data: AsyncIterator[bytes]


class Colleagues(Protocol):
    """The others, as far as they are there."""

    async def manifest(self, source: str) -> Manifest | None:
        """What a model consists of, for those who have it, or are fetching it."""
        ...

    async def agree(self, source: str, manifest: Manifest) -> Manifest:
        """What all who ask the place at about this time go by."""
        ...

    async def claim(self, sought: Sought, over: Claim | None = None) -> Claim | None:
        """Who brings a piece; None: this node does. `over` is a claim whose holder does not bring it."""
        ...

    def who_has(self, source: str) -> Sequence[NodeId]:
        """Nodes that have the model, those first who have all of it."""
        ...

    def has_all(self, source: str) -> Sequence[NodeId]:
        """Nodes that have every byte of the model, in any order."""
        ...

    async def is_gone(self, node: NodeId) -> bool:
        """Whether the cluster takes a node that does not answer for lost; waits for a moment for it to be told."""
        ...

    def fetch(self, node: NodeId, sought: Sought) -> AbstractAsyncContextManager[Delivered]:
        """A piece from a node; raises Lack."""
        ...


class Nobody:
    """A node without a cluster."""

    async def manifest(self, source: str) -> Manifest | None:  # noqa: ARG002 - the port's
        return None

    async def agree(self, source: str, manifest: Manifest) -> Manifest:  # noqa: ARG002
        return manifest

    async def claim(self, sought: Sought, over: Claim | None = None) -> Claim | None:  # noqa: ARG002
        return None

    def who_has(self, source: str) -> Sequence[NodeId]:  # noqa: ARG002
        return ()

    has_all = who_has

    async def is_gone(self, node: NodeId) -> bool:  # noqa: ARG002
        return True

    def fetch(self, node: NodeId, sought: Sought) -> AbstractAsyncContextManager[Delivered]:  # noqa: ARG002
        raise Lack("away")
