"""A key-value bucket whose values are JSON Structs; keys are names, encoded so that any name is a key."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import cast

import msgspec
from msgspec import Struct
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from bus.append import EXPECTED_SEQUENCE, append
from bus.connection import Connection
from bus.errors import BusAway
from bus.reader import Mark, Reader, Stored

OPERATION = "KV-Operation"


class Entry(Struct, frozen=True):
    """The last word on one key; `value` is None when it was deleted or ran out."""

    key: str
    value: bytes | None
    revision: int


def entry_of(item: Stored) -> Entry:
    """A stored message of a bucket as an entry."""
    key = item.subject.split(".", 2)[2]
    gone = OPERATION in item.headers or "Nats-Marker-Reason" in item.headers
    return Entry(key, None if gone else item.payload, item.seq)


class Bucket:
    """One bucket; raises `BusAway` while it cannot be reached."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> Entry:
        """The last word on `key`; a key that never was has the revision 0."""
        try:
            found = await self._connection.jetstream.get_last_msg(self._stream, self._prefix + key)
        except NotFoundError:
            return Entry(key, None, 0)
        except (NatsTimeout, ConnectionClosedError, NoStreamResponseError, APIError) as failure:
            raise BusAway(f"the bus is away: {self._prefix}{key} cannot be read") from failure
        headers = cast("dict[str, str]", found.headers or {})  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
        return entry_of(Stored(found.subject or "", found.data or b"", headers, found.seq or 0, 0.0))

    async def put(
        self, key: str, value: Struct, revision: int | None = None, ttl_s: int | None = None
    ) -> int:
        """Set a key and return its revision; `Fenced` when its last revision is not `revision`, if given.

        `ttl_s` ends it by itself, in a bucket that knows of that.
        """
        headers = {} if ttl_s is None else {"Nats-TTL": f"{ttl_s}s"}
        return await self._publish(key, msgspec.json.encode(value), headers, revision)

    async def delete(self, key: str, revision: int | None = None) -> int:
        """Delete a key, leaving a marker that watchers see; `revision` as with `put`."""
        return await self._publish(key, b"", {OPERATION: "DEL"}, revision)

    async def drop_marker(self, key: str, revision: int) -> bool:
        """Remove the marker that `delete` has left, unless somebody has written since; whether it is gone.

        Who reads the bucket at this moment may not hear of the deletion any more. One that cannot be removed does no harm.
        """
        with suppress(NatsTimeout, ConnectionClosedError, NoStreamResponseError, APIError):
            await self._connection.jetstream.purge_stream(
                self._stream, seq=revision + 1, subject=self._prefix + key
            )
            return True
        return False

    async def _publish(self, key: str, payload: bytes, headers: dict[str, str], revision: int | None) -> int:
        if revision is not None:
            headers[EXPECTED_SEQUENCE] = str(revision)
        subject = self._connection.writing(self._prefix + key)
        return await append(self._connection, subject, payload, headers, timeout_s=5)

    async def entries(self) -> list[Entry]:
        """The present value of every key, in the order in which they were written."""
        found: list[Entry] = []
        async with aclosing(self.watch()) as entries:
            async for entry in entries:
                if isinstance(entry, Entry):
                    found.append(entry)
                elif entry == "caught_up":
                    return found
                else:
                    found = []
        return found

    async def watch(self, keys: str = ">") -> AsyncGenerator[Entry | Mark]:
        """Present and future values of all keys, or of one, with the reader's marks `began` and `caught_up` in between."""
        reader = Reader(self._connection, self._stream, self._prefix + keys)
        async with aclosing(reader.items()) as items:
            async for item in items:
                yield entry_of(item) if isinstance(item, Stored) else item
