"""Reading a stream whose end is deleted while it is read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bus.bus import Bus
from bus.reader import Mark, Reader, Stored
from bus.server import Server
from schemas.ids import ModelId, NodeId, RequestId
from tests.relay import relaying

MESSAGE = b"x" * 100_000


@pytest.mark.slow
async def test_what_is_deleted_before_it_was_delivered_is_not_waited_for(
    bus: Bus, nats_server: Server
) -> None:
    subject = bus.subjects.audit(ModelId("m"), RequestId("r"))
    for _ in range(200):
        await bus.connection.jetstream.publish(subject, MESSAGE)
    async with relaying(nats_server.port) as relay, asyncio.timeout(30):
        far = await Bus.connect(relay.url, "troupe", "far", NodeId("far"))
        relay.set_trap(b"$JS.FC.")  # the server waits for its leave to send more
        async with aclosing(Reader(far.connection, "troupe_audit", subject, after=0).items()) as items:
            assert await anext(items) == "began"
            reading = asyncio.create_task(count(items))
            await relay.sprung.wait()
            await bus.connection.jetstream.purge_stream("troupe_audit")
            relay.release()
            assert 0 < await reading < 200
        await far.close()


async def count(items: AsyncGenerator[Stored | Mark]) -> int:
    """Until all has been read that the stream held."""
    read = 0
    async for item in items:
        if item == "caught_up":
            return read
        read += 1
    raise AssertionError("a reader never ends")
