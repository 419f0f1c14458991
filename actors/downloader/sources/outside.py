"""The port to a place outside of the cluster: what a model consists of there, and how to ask for its bytes."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import httpx2

from schemas.manifest import ListedFile, Manifest

TIMEOUT = httpx2.Timeout(10.0, read=30.0, pool=None)
"""A place that says nothing for this long is asked again; seconds."""


class Outside(Protocol):
    """One model in one place that speaks HTTP."""

    source: str
    """What the place is called in the state: `hf:OWNER/NAME`."""
    folder_name: str
    """How the model's folder is called, on every node alike."""

    def client(self) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        """Connections to the place, in whose name it is asked."""
        ...

    async def listing(self, client: httpx2.AsyncClient) -> Manifest:
        """What the model consists of; raises Unavailable and Unobtainable."""
        ...

    async def address(self, manifest: Manifest, file: ListedFile) -> str:
        """Where the bytes of a file are to be asked for, by ranges."""
        ...
