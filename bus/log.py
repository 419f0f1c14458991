"""The ordered global event log: fenced decisions, facts, and following it without a gap."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from secrets import token_hex

import structlog
from nats.errors import ConnectionClosedError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NoStreamResponseError, NotFoundError
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from bus.append import EXPECTED_SEQUENCE, append
from bus.connection import Connection
from bus.errors import BusAway
from bus.reader import Reader, Stored
from bus.streams import Streams
from bus.subjects import Subjects
from schemas.events import Decided, Event, Recorded, Seen, UnknownEvent, decode_event, encode_event
from schemas.ids import NodeId

logger = structlog.get_logger()

EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
TERM, NODE = "Troupe-Term", "Troupe-Node"
ACK_S = 2.0
"""How long the log may take to acknowledge an event."""


class Log:
    """The stream `troupe_events`."""

    def __init__(self, connection: Connection, cluster: str, node: NodeId) -> None:
        self._connection = connection
        self._subjects = Subjects(cluster)
        self._stream = Streams(cluster).events
        self._node = node
        self._odd: set[str] = set()

    async def record(self, fact: Seen, deadline_s: float | None = None) -> int:
        """Append a fact once, and return its sequence; waits while the bus is away.

        Raises `BusAway` only after `deadline_s` seconds, when one is given.
        """
        return await self._append(fact, {}, deadline_s)

    async def last_decision(self) -> int:
        """Sequence of the last decision in the log; 0 when there is none."""
        try:
            message = await self._connection.jetstream.get_last_msg(self._stream, self._subjects.decisions)
        except NotFoundError:
            return 0
        except (NatsTimeout, ConnectionClosedError, NoStreamResponseError) as failure:
            raise BusAway("the bus is away: the last decision cannot be read") from failure
        return message.seq or 0

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence that the log holds."""
        try:
            info = await self._connection.jetstream.stream_info(self._stream)
        except (NatsTimeout, ConnectionClosedError, NoStreamResponseError) as failure:
            raise BusAway("the bus is away: the log cannot be read") from failure
        return info.state.first_seq, info.state.last_seq

    async def decide(self, decision: Decided, term: int, after: int, deadline_s: float = 10.0) -> int:
        """Append a decision if the last one is still number `after`; returns its sequence.

        Raises `Fenced` when somebody decided meanwhile, `BusAway` when it is unknown.
        """
        headers = {
            TERM: str(term),
            EXPECTED_SEQUENCE: str(after),
            EXPECTED_SUBJECT: self._subjects.decisions,
        }
        return await self._append(decision, headers, deadline_s)

    async def _append(self, event: Event, headers: dict[str, str], deadline_s: float | None) -> int:
        """One message id for all tries: the bus stores the event once, however often it is sent."""
        headers = {"Nats-Msg-Id": token_hex(12), NODE: self._node, **headers}
        subject, payload = self._subjects.event(event), encode_event(event)
        async for attempt in _tries(deadline_s):
            with attempt:
                return await append(self._connection, subject, payload, headers, ACK_S)
        raise AssertionError("tenacity either returns or raises")

    async def follow(self, after: int = 0) -> AsyncGenerator[Recorded]:
        """Every event after sequence `after`, without end; a gap of the connection is repaired."""
        reader = Reader(self._connection, self._stream, self._subjects.events, after)
        async with aclosing(reader.items()) as items:
            async for item in items:
                if isinstance(item, Stored):
                    yield self._recorded(item)

    async def past(self, after: int = 0) -> AsyncGenerator[Recorded]:
        """Every event after sequence `after` that the log holds now."""
        reader = Reader(self._connection, self._stream, self._subjects.events, after)
        async with aclosing(reader.items()) as items:
            async for item in items:
                if isinstance(item, Stored):
                    yield self._recorded(item)
                elif item == "caught_up":
                    return

    def _recorded(self, item: Stored) -> Recorded:
        event = decode_event(item.payload)
        if isinstance(event, UnknownEvent):
            self._note_odd(item, event)
        return Recorded(
            seq=item.seq,
            time=item.time,
            event=event,
            term=_number(item.headers.get(TERM, "")),
            by=item.headers.get(NODE, ""),
        )

    def _note_odd(self, item: Stored, event: UnknownEvent) -> None:
        kind = event.type or item.subject
        if kind not in self._odd and len(self._odd) < 1000:
            self._odd.add(kind)
            logger.warning(
                "event.unknown", kind=event.type, subject=item.subject, seq=item.seq, reason=event.why
            )


def _number(said: str) -> int:
    """Anybody may write into the log: what is no number is 0."""
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0


def _tries(deadline_s: float | None) -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(BusAway),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        stop=stop_never if deadline_s is None else stop_after_delay(deadline_s),
        reraise=True,
    )
