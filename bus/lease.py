"""Leases: keys with a time to live, renewed by compare-and-set; who holds one is alone in doing so."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from math import ceil

import msgspec
from msgspec import Struct

from bus.append import EXPECTED_SEQUENCE, append
from bus.bucket import Bucket, Entry
from bus.connection import Connection
from bus.errors import Fenced, LeaseLost, NotStored
from bus.streams import Streams
from schemas.ids import NodeId
from schemas.unreadable import UNREADABLE

LEADER = "leader"


def node_lease(node: NodeId) -> str:
    """`node.{id}`: held by each node for as long as it lives."""
    return f"node.{node}"


class Holder(Struct, frozen=True, kw_only=True):
    """Who holds a lease; `incarnation` names the life of the process."""

    node: NodeId
    incarnation: str


class Lease:
    """A lease that this process holds, valid until `ttl_s` after the last renewal was sent."""

    def __init__(self, leases: "Leases", key: str, holder: Holder, revision: int, sent_at: float) -> None:
        self._leases = leases
        self._key = key
        self._holder = holder
        self._sent_at = sent_at
        self.revision = revision
        self.ttl_s = leases.ttl_s

    @property
    def valid(self) -> bool:
        """Whether nobody else can hold it, by this machine's monotonic clock."""
        return time.monotonic() < self._sent_at + self.ttl_s

    def require_valid(self) -> None:
        """Raises `LeaseLost` when somebody else may hold it by now."""
        if not self.valid:
            raise LeaseLost(f"the lease {self._key} ran out")

    async def renew(self) -> None:
        """Raises `LeaseLost` when somebody else holds it or it ran out, `BusAway` when it cannot be told."""
        sent_at = time.monotonic()
        self.revision = await self._leases.write(self._key, self._holder, self.revision)
        self._sent_at = sent_at

    async def release(self) -> None:
        """Give it up at once, so that others need not wait for its end."""
        self._sent_at = float("-inf")
        await self._leases.clear(self._key, self.revision)


class Leases:
    """The bucket `troupe_leases`."""

    def __init__(self, connection: Connection, cluster: str, ttl_s: float = 3.0) -> None:
        self._connection = connection
        self._name = Streams(cluster).leases
        self._bucket = Bucket(connection, self._name)
        self.ttl_s = ttl_s

    async def acquire(self, key: str, holder: Holder) -> Lease:
        """Take a free lease; raises `LeaseLost` when somebody holds it or was quicker."""
        current = await self._bucket.get(key)
        if current.value is not None and not _same_node(current.value, holder):
            raise LeaseLost(f"the lease {key} is held by {current.value.decode()}")
        sent_at = time.monotonic()
        revision = await self.write(key, holder, current.revision)
        return Lease(self, key, holder, revision, sent_at)

    async def holder(self, key: str) -> Holder | None:
        """Who holds a lease at this moment."""
        held: dict[str, Holder] = {}
        _note(held, await self._bucket.get(key))
        return held.get(key)

    async def has_twin(self, key: str, holder: Holder) -> bool:
        """Whether another life of `holder` renews this lease now; a dead one's is looked at for half a TTL."""
        before = await self._bucket.get(key)
        if not before.value or before.value == msgspec.json.encode(holder):
            return False
        await asyncio.sleep(self.ttl_s / 2)
        after = await self._bucket.get(key)
        return after.value == before.value and after.revision != before.revision

    async def write(self, key: str, holder: Holder, revision: int) -> int:
        """Set the key if its revision is still `revision`; returns the new one."""
        on_bus_s = ceil(self.ttl_s)  # the server cuts fractions off: it would end before its holder thinks
        return await self._publish(key, msgspec.json.encode(holder), revision, {"Nats-TTL": f"{on_bus_s}s"})

    async def clear(self, key: str, revision: int) -> None:
        """Delete the key if its revision is still `revision`."""
        await self._publish(key, b"", revision, {"KV-Operation": "DEL"})

    async def _publish(self, key: str, payload: bytes, revision: int, headers: dict[str, str]) -> int:
        headers[EXPECTED_SEQUENCE] = str(revision)
        try:
            subject = self._connection.writing(f"$KV.{self._name}.{key}")
            return await append(self._connection, subject, payload, headers, timeout_s=self.ttl_s / 3)
        except (Fenced, NotStored) as failure:
            raise LeaseLost(f"the lease {key} is no longer ours: {failure}") from failure

    async def holders(self, keys: str = ">") -> AsyncGenerator[dict[str, Holder]]:
        """Who holds which lease, of all or of one, now and after each change: always the whole picture, also after a gap.

        A renewal is no change: a thousand nodes renew a thousand times a second.
        """
        held: dict[str, Holder] = {}
        complete, changed = False, True
        async with aclosing(self._bucket.watch(keys)) as entries:
            async for entry in entries:
                if isinstance(entry, Entry):
                    changed = _note(held, entry) or changed
                elif entry == "began":
                    held, complete, changed = {}, False, True
                else:
                    complete = True
                if complete and changed:
                    changed = False
                    yield dict(held)


def _note(held: dict[str, Holder], entry: Entry) -> bool:
    """Whether somebody else, or nobody, holds it now."""
    before = held.pop(entry.key, None)
    if entry.value:
        with suppress(*UNREADABLE):  # somebody else's garbage holds no lease
            held[entry.key] = msgspec.json.decode(entry.value, type=Holder)
    return held.get(entry.key) != before


def _same_node(value: bytes, holder: Holder) -> bool:
    """A node's data folder is locked: who has its name is its own earlier life."""
    try:
        return msgspec.json.decode(value, type=Holder).node == holder.node
    except UNREADABLE:
        return True
