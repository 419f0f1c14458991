"""An object store for what is too large for a message."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from io import BytesIO

from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError, NoStreamResponseError, ObjectNotFoundError, ServiceUnavailableError
from nats.js.object_store import ObjectStore

from bus.append import FULL
from bus.connection import Connection
from bus.errors import BlobMissing, BusAway, BusError, StreamFull

_AWAY = (
    NatsTimeout,
    TimeoutError,
    NoStreamResponseError,
    ServiceUnavailableError,
    ConnectionClosedError,
    OutboundBufferLimitError,
)
DEADLINE_S = 30.0
"""nats-py waits for ever for parts of an object that ran out, or were lost on the way; seconds."""


class Blobs:
    """One object store; raises `BusAway` while it cannot be reached, `BusError` when it does not work."""

    def __init__(self, connection: Connection, name: str, deadline_s: float = DEADLINE_S) -> None:
        self._connection = connection
        self._name = name
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def _store(self, wanted: str) -> AsyncGenerator[ObjectStore]:
        self._connection.require_up()
        try:
            async with asyncio.timeout(self._deadline_s):
                yield await self._connection.jetstream.object_store(self._name)
        except (NatsError, TimeoutError) as failure:
            raise self._said(failure, wanted) from failure

    def _said(self, failure: Exception, wanted: str) -> BusError:
        why = failure.description if isinstance(failure, APIError) else str(failure)
        if isinstance(failure, ObjectNotFoundError):
            return BlobMissing(f"{wanted}: {self._name} does not hold it")
        if FULL in (why or ""):
            return StreamFull(f"{wanted} in {self._name}: {why}")
        if isinstance(failure, _AWAY):
            return BusAway(f"the bus is away: {wanted}")
        return BusError(f"{wanted} in {self._name}: {why or type(failure).__name__}")

    async def put(self, name: str, data: bytes) -> None:
        """Store `data` under `name`, in place of what was there; raises `StreamFull` when there is no space."""
        async with self._store(f"{name} cannot be stored") as store:
            await store.put(name, BytesIO(data))

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`; raises `BlobMissing`."""
        async with self._store(f"{name} cannot be read") as store:
            return (await store.get(name)).data or b""

    async def has(self, name: str) -> bool:
        try:
            async with self._store(f"{name} cannot be looked up") as store:
                await store.get_info(name)
        except BlobMissing:
            return False
        return True

    async def names(self) -> frozenset[str]:
        """What is stored; an object that was deleted, and not removed, counts as well."""
        found: set[str] = set()
        for each in await self._listed("M"):
            with suppress(ValueError):  # somebody else's garbage
                found.add(urlsafe_b64decode(each).decode())
        return frozenset(found)

    async def strays(self) -> frozenset[str]:
        """Parts that belong to no object: they are on their way, or who stored them was killed or was not the only one."""
        parts = await self._listed("C")
        for name in await self.names():
            with suppress(BlobMissing):
                async with self._store(f"{name} cannot be looked up") as store:
                    parts -= {(await store.get_info(name)).nuid or ""}
        return parts

    async def remove_stray(self, part: str) -> None:
        """Give its bytes back."""
        async with self._store(f"part {part} cannot be removed"):
            await self._connection.jetstream.purge_stream(
                f"OBJ_{self._name}", subject=f"$O.{self._name}.C.{part}"
            )

    async def _listed(self, kind: str) -> frozenset[str]:
        """The last tokens of subjects: names in base64 (`M`), or parts, each the chunks of one `put` (`C`)."""
        prefix = f"$O.{self._name}.{kind}."
        async with self._store("its objects cannot be listed"):
            info = await self._connection.jetstream.stream_info(f"OBJ_{self._name}", f"{prefix}>")
        return frozenset(each.removeprefix(prefix) for each in info.state.subjects or {})

    async def remove(self, name: str) -> None:
        """Delete an object, and the marker that this leaves, unless somebody has stored it again since."""
        await self.delete(name)
        stream = f"OBJ_{self._name}"
        subject = f"$O.{self._name}.M.{urlsafe_b64encode(name.encode()).decode()}"
        async with self._store(f"{name} cannot be removed"):
            last = await self._connection.jetstream.get_last_msg(stream, subject)
            if b'"deleted": true' in (last.data or b""):
                await self._connection.jetstream.purge_stream(
                    stream, seq=(last.seq or 0) + 1, subject=subject
                )

    async def delete(self, name: str) -> None:
        try:
            async with self._store(f"{name} cannot be deleted") as store:
                await store.delete(name)
        except BlobMissing:
            return
