"""What anybody may publish, and what no reader may stumble over."""

import asyncio

import msgspec
import pytest

from bus.bucket import Bucket
from bus.bus import Bus
from bus.errors import BusError
from schemas.events import DownloadReported, UnknownEvent, decode_event
from schemas.ids import ModelId, NodeId
from schemas.refused import Refused
from schemas.task import Cancel
from tests.bus.test_queue import MODEL, taken, task
from tests.facts import joined

DEEP = b'{"type":"NodeLeft","a":' + b"[" * 100_000
FACT = DownloadReported(node=NodeId("n1"), model=ModelId("m"), source="s", status="complete")


def test_what_is_nested_too_deeply_is_an_unknown_event() -> None:
    assert isinstance(decode_event(DEEP), UnknownEvent)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {"Status": "100", "Description": "Idle Heartbeat"},
        {"Nats-Last-Consumer": "77"},
        {"Troupe-Term": "\N{SUPERSCRIPT TWO}"},
        {"Troupe-Term": "9" * 5000},
    ],
)
async def test_an_odd_event_is_passed_over(bus: Bus, headers: dict[str, str] | None) -> None:
    await bus.connection.publish("troupe.evt.odd", DEEP, headers=headers)
    seq = await bus.log.record(FACT)
    await bus.view.until(lambda state: state.seq >= seq and state.downloads)


async def test_an_odd_request_is_refused(bus: Bus) -> None:
    async def handler(_: Cancel) -> Refused:
        raise AssertionError("it cannot be read")

    async with bus.serving("odd", Cancel, handler):
        reply = await bus.connection.request("odd", DEEP, 5.0)
    assert msgspec.json.decode(reply.data, type=Refused).code == "bad_request"


async def test_an_odd_task_is_parked(bus: Bus) -> None:
    subject = bus.subjects.task(MODEL, "normal")
    async with bus.queue.pulls(MODEL) as pulls:
        await bus.connection.publish(subject, b"\xff", headers={"Status": "408"})
        await bus.connection.publish(subject, b"\x91" * 100_000)
        await bus.queue.put(task("a"), 60)
        assert await taken(pulls) == "a"


async def test_readers_hear_that_the_state_is_no_longer_followed(bus: Bus) -> None:
    """Nothing foreseen ends it: better a failure that a supervisor sees than a state that stands still."""

    async def waiting() -> None:
        await bus.view.until(lambda state: state.seq > 1_000_000, timeout_s=None)

    reader = asyncio.create_task(waiting())
    await bus.connection.close()
    with pytest.raises(BusError, match="no longer followed"):
        async with asyncio.timeout(10):
            await reader


async def test_what_only_newer_nodes_can_read_is_not_deleted_while_there_are_any(bus: Bus) -> None:
    """A leader of the older version would take a wish of theirs away, which the log may hold no more."""
    bucket, written = Bucket(bus.connection, "troupe_state"), "model.new"
    newer = b'{"seq":1,"spec":{"id":"new","source":"x","engine":"of the future"}}'
    await bus.connection.jetstream.publish(f"$KV.troupe_state.{written}", newer)
    await bus.log.record(joined("n1"))
    await write(bus, await bus.log.record(joined("n2", version="7.0.0")))
    assert {entry.key: entry.value for entry in await bucket.entries()}[written] == newer
    await write(bus, await bus.log.record(joined("n2", "two")))
    assert {entry.key: entry.value for entry in await bucket.entries()}[written] is None


async def write(bus: Bus, seq: int) -> None:
    """As at the beginning of a reign."""
    bus.snapshots.forget()
    await bus.snapshots.write(await bus.view.until(lambda state: state.seq >= seq))
