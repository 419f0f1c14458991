"""The object store on a real nats-server: kept, missed, and given up when parts of an object are lost."""

import asyncio

import pytest

from bus.blobs import Blobs
from bus.bus import Bus
from bus.errors import BlobMissing, BusAway, BusError
from bus.streams import Streams

STORE = Streams("troupe").payloads


async def test_what_is_stored_comes_back(bus: Bus) -> None:
    data = bytes(range(256)) * 2000
    await bus.payloads.put("a", data)
    assert await bus.payloads.get("a") == data and await bus.payloads.has("a")
    await bus.payloads.delete("a")
    assert not await bus.payloads.has("a")
    with pytest.raises(BlobMissing, match=r"a cannot be read: .* does not hold it"):
        await bus.payloads.get("a")


async def test_an_object_whose_parts_are_gone_keeps_nobody_waiting(bus: Bus) -> None:
    """The parts of an object are older than its description: they run out first."""
    await bus.payloads.put("a", b"x" * 1000)
    await bus.connection.jetstream.purge_stream(f"OBJ_{STORE}", subject=f"$O.{STORE}.C.>")
    with pytest.raises(BusAway, match="a cannot be read"):
        async with asyncio.timeout(10):
            await Blobs(bus.connection, STORE, deadline_s=0.3).get("a")


async def test_a_store_that_does_not_work_is_an_error_of_the_bus(bus: Bus) -> None:
    await bus.connection.jetstream.delete_stream(f"OBJ_{STORE}")
    for asking in (bus.payloads.get("a"), bus.payloads.put("a", b"x"), bus.payloads.delete("a")):
        with pytest.raises(BusError, match=f"a cannot be .* in {STORE}"):
            await asking
