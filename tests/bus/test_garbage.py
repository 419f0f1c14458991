"""What anybody may publish, and what no reader may stumble over."""

import asyncio

import msgspec
import pytest

from bus.bus import Bus
from bus.errors import BusError
from schemas.events import DownloadReported, UnknownEvent, decode_event
from schemas.ids import ModelId, NodeId
from schemas.refused import Refused
from schemas.task import Cancel
from tests.bus.test_queue import MODEL, taken, task

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
