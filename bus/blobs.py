"""An object store for what is too large for a message."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO

from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError, NoStreamResponseError, ObjectNotFoundError, ServiceUnavailableError
from nats.js.object_store import ObjectStore

from bus.connection import Connection
from bus.errors import BlobMissing, BusAway

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
    """One object store; raises `BusAway` while it cannot be reached."""

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
        except _AWAY as failure:
            raise BusAway(f"the bus is away: {wanted}") from failure

    async def put(self, name: str, data: bytes) -> None:
        """Store `data` under `name`, in place of what was there."""
        async with self._store(f"{name} cannot be stored") as store:
            await store.put(name, BytesIO(data))

    async def get(self, name: str) -> bytes:
        """The bytes stored under `name`; raises `BlobMissing`."""
        try:
            async with self._store(f"{name} cannot be read") as store:
                return (await store.get(name)).data or b""
        except ObjectNotFoundError as failure:
            raise BlobMissing(f"{self._name} holds no {name}") from failure

    async def has(self, name: str) -> bool:
        try:
            async with self._store(f"{name} cannot be looked up") as store:
                await store.get_info(name)
        except (ObjectNotFoundError, APIError):
            return False
        return True

    async def delete(self, name: str) -> None:
        try:
            async with self._store(f"{name} cannot be deleted") as store:
                await store.delete(name)
        except (ObjectNotFoundError, APIError):
            return
