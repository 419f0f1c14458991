"""Audit records reach their stream once, also through a loss of the bus; too many are dropped and counted."""

import asyncio
import json

from bus.audits import Audits
from bus.bus import Bus
from bus.server import Server
from schemas.audit import Audit
from schemas.ids import ApiId, ModelId, NodeId, RequestId


def audit(number: int) -> Audit:
    return Audit(
        request=RequestId(f"r{number}"),
        model=ModelId("org/model.v1"),
        api=ApiId("a1"),
        node=NodeId("n1"),
        outcome="stop",
    )


async def stored(bus: Bus, count: int) -> list[dict[str, object]]:
    """All that the stream holds, once there are `count` or more."""
    jetstream, found = bus.connection.jetstream, []
    async with asyncio.timeout(20):
        while (await jetstream.stream_info("troupe_audit")).state.messages < count:
            pass
    for seq in range(1, (await jetstream.stream_info("troupe_audit")).state.last_seq + 1):
        message = await jetstream.get_msg("troupe_audit", seq)
        assert message.data is not None
        found.append(json.loads(message.data))
    return found


async def test_records_are_stored_as_json_under_model_and_request(bus: Bus) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    storing = asyncio.create_task(bus.audits.run())
    async with bus.listening(bus.subjects.audits, lambda _, subject: heard.put_nowait(subject)):
        bus.audits.put(audit(1))
        assert await heard.get() == "troupe.audit.org=2Fmodel=2Ev1.r1"
    (record,) = await stored(bus, 1)
    assert (record["type"], record["request"], record["outcome"]) == ("Audit", "r1", "stop")
    storing.cancel()


async def test_what_ends_while_the_bus_is_away_is_stored_when_it_is_back(
    bus: Bus, nats_server: Server
) -> None:
    storing = asyncio.create_task(bus.audits.run())
    bus.audits.put(audit(0))
    await stored(bus, 1)
    await nats_server.stop()
    for number in range(1, 100):
        bus.audits.put(audit(number))
    await nats_server.start()
    await bus.until_connected()
    assert {record["request"] for record in await stored(bus, 100)} == {f"r{number}" for number in range(100)}
    assert bus.audits.dropped == 0
    storing.cancel()


async def test_the_same_record_twice_is_stored_once(bus: Bus) -> None:
    storing = asyncio.create_task(bus.audits.run())
    for number in (1, 1, 2):
        bus.audits.put(audit(number))
    assert [record["request"] for record in await stored(bus, 2)] == ["r1", "r2"]
    storing.cancel()


async def test_more_than_it_keeps_is_dropped_and_counted(bus: Bus) -> None:
    audits = Audits(bus.connection, bus.cluster, kept=2)
    for number in range(5):
        audits.put(audit(number))
    assert (len(audits), audits.dropped) == (2, 3)
    storing = asyncio.create_task(audits.run())
    assert [record["request"] for record in await stored(bus, 2)] == ["r0", "r1"]
    storing.cancel()


async def test_what_waits_at_the_end_is_sent_off(bus: Bus) -> None:
    storing = asyncio.create_task(bus.audits.run())
    await asyncio.sleep(0)
    bus.audits.put(audit(1))
    storing.cancel()
    await asyncio.wait([storing])
    assert len(bus.audits) == 0
    assert [record["request"] for record in await stored(bus, 1)] == ["r1"]
