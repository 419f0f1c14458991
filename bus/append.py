"""Publishing into a stream, and what the stream says to it."""

from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError, NoStreamResponseError

from bus.connection import Connection
from bus.errors import BusAway, Fenced, NotStored, StreamFull

EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
WRONG_LAST_SEQUENCE = 10071
UNAVAILABLE = 503
IN_PROCESS = 10158
"""An earlier try of the same message is being stored; of three servers one was lost, say, and the rest have yet to agree."""
FULL = "maximum "
"""A bound of the stream and a broken disk have the same code (10077); the words tell them apart."""


async def append(
    connection: Connection, subject: str, payload: bytes, headers: dict[str, str], timeout_s: float
) -> int:
    """Store a message in the stream that captures `subject`, and return its sequence.

    Raises `Fenced` when the headers expect another last sequence, `StreamFull` when a bound of the
    stream is reached, `NotStored` when it refuses for another reason, `TooLarge`, `BusAway` when it is not known to be stored.
    """
    connection.require_up()
    connection.require_fits(subject, payload)
    try:
        ack = await connection.jetstream.publish(subject, payload, timeout=timeout_s, headers=headers)
    except APIError as failure:
        if failure.err_code == WRONG_LAST_SEQUENCE:
            raise Fenced(
                f"{subject} was refused, somebody else wrote since: {failure.description}"
            ) from failure
        if FULL in (failure.description or ""):
            raise StreamFull(f"{subject} was refused: {failure.description}") from failure
        if failure.code == UNAVAILABLE or failure.err_code == IN_PROCESS:
            raise BusAway(f"{subject} cannot be stored now: {failure.description}") from failure
        raise NotStored(f"{subject} was refused: {failure.description}") from failure
    except (NatsTimeout, TimeoutError, NoStreamResponseError) as failure:
        connection.note_silence()
        connection.require_permitted(subject)
        raise BusAway(f"the bus did not acknowledge {subject} within {timeout_s:g} s") from failure
    except (ConnectionClosedError, OutboundBufferLimitError) as failure:
        raise BusAway(f"the bus is away: {subject} cannot be stored") from failure
    return ack.seq
