"""Streams of events, without a network."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from api.sse import EventStream, event


async def sent_by(events: AsyncGenerator[bytes]) -> tuple[int, bytes, bool]:
    """Status, body, and whether it was said to be whole."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    await EventStream(events)({}, receive, send)  # type: ignore[arg-type]  # the scope is not looked at
    body = b"".join(message["body"] for message in messages[1:])
    return messages[0]["status"], body, not messages[-1]["more_body"]


async def breaks(after: int) -> AsyncGenerator[bytes]:
    for number in range(after):
        yield event(b"%d" % number)
    raise ZeroDivisionError


async def test_what_nobody_foresaw_is_an_error_event_and_no_cut_line() -> None:
    status, body, whole = await sent_by(breaks(after=1))
    assert (status, whole) == (200, True)
    assert body.startswith(b"data: 0\n\n")
    assert b'"internal_error"' in body and body.endswith(b"data: [DONE]\n\n")
    assert b"ZeroDivision" not in body


async def test_before_the_first_event_it_is_a_plain_500() -> None:
    status, body, whole = await sent_by(breaks(after=0))
    assert (status, whole) == (500, True)
    assert b'"internal_error"' in body
