"""Reads a stream in order, without a gap, through reconnects, restarts of the server and lost consumers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from bus.connection import Connection
from bus.errors import BusAway

log = structlog.get_logger()

HEARTBEAT_S = 2.0
STALLED_S = 3 * HEARTBEAT_S
"""With neither a message nor a heartbeat for this long, the consumer is made again; seconds."""


class Stored(Struct, frozen=True):
    """A message as the stream holds it."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    seq: int
    time: float
    """When the stream stored it; Unix time in seconds."""


Mark = Literal["began", "caught_up"]
"""`began`: reading starts (again); `caught_up`: all that the stream held has been read."""


class Reader:
    """Follows `subject` in `stream`, from `after` on, or from the last message of each subject."""

    def __init__(self, connection: Connection, stream: str, subject: str, after: int | None = None) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._after = after

    async def items(self) -> AsyncGenerator[Stored | Mark]:
        """All that is stored and then all that comes, with marks in between; ends only with its reader."""
        while True:
            await self._connection.until_up()
            try:
                async with aclosing(self._life()) as items:
                    async for item in items:
                        if isinstance(item, Stored) and self._after is not None:
                            self._after = item.seq
                        yield item
            except (NatsError, BusAway, TimeoutError) as failure:
                log.debug(
                    "reader.interrupted", stream=self._stream, reason=str(failure) or type(failure).__name__
                )
                await asyncio.sleep(0.1)

    async def _life(self) -> AsyncGenerator[Stored | Mark]:
        """One consumer's life: it ends with a gap, with silence, or with the connection's."""
        inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
        over = self._connection.life_event()
        watch = asyncio.create_task(tell_end(over, inbox))
        address = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(address, inbox.put)
        info: ConsumerInfo | None = None
        try:
            info = await self._connection.jetstream.add_consumer(  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
                self._stream, self._consumer(address)
            )
            yield "began"
            if not info.num_pending:
                yield "caught_up"
            async with aclosing(self._deliveries(inbox, behind=bool(info.num_pending))) as deliveries:
                async for item in deliveries:
                    yield item
        finally:
            watch.cancel()
            self._connection.forget(over)
            await self._connection.unsubscribe(subscription)
            await self._drop(info)

    def _consumer(self, address: str) -> ConsumerConfig:
        start: dict[str, Any] = {"deliver_policy": DeliverPolicy.LAST_PER_SUBJECT}
        if self._after is not None:
            start = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": self._after + 1}
        return ConsumerConfig(
            deliver_subject=address,
            filter_subject=self._subject,
            ack_policy=AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
            **start,
        )

    async def _deliveries(
        self, inbox: "asyncio.Queue[Msg | None]", behind: bool
    ) -> AsyncGenerator[Stored | Mark]:
        expected = 1
        while True:
            async with asyncio.timeout(STALLED_S):
                message = await inbox.get()
            if message is None:
                return
            if not is_stored(message):
                if not await self._control(message, expected):
                    return
                if behind and _is_idle(message):  # what it was behind with has been deleted, or has run out
                    behind = False
                    yield "caught_up"
                continue
            delivery = _Delivery.of(message)
            if delivery.consumer_seq != expected:
                log.info("reader.gap", stream=self._stream, expected=expected, got=delivery.consumer_seq)
                return
            expected += 1
            yield Stored(message.subject, message.data, message.headers or {}, delivery.seq, delivery.time)
            if behind and not delivery.pending:
                behind = False
                yield "caught_up"

    async def _control(self, message: Msg, expected: int) -> bool:
        """Answer flow control (a heartbeat may carry a stalled one); False when a heartbeat tells of a gap."""
        headers = message.headers or {}
        reply = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if reply:
            await self._connection.publish(reply, b"")
        last = headers.get("Nats-Last-Consumer")
        return last is None or int(last) == expected - 1

    async def _drop(self, info: ConsumerInfo | None) -> None:
        if info is None or not self._connection.up:
            return  # an idle consumer without a listener goes by itself
        subject = f"{self._connection.api}.CONSUMER.DELETE.{self._stream}.{info.name}"
        await self._connection.publish(subject, b"")


class _Delivery(Struct, frozen=True):
    """What JetStream writes into the reply subject of a delivered message."""

    seq: int
    consumer_seq: int
    time: float
    pending: int

    @classmethod
    def of(cls, message: Msg) -> "_Delivery":
        tokens = message.reply.split(".")
        start = 5 if len(tokens) == 9 else 7  # 9 without, 12 with a JetStream domain
        seq, consumer_seq, nanoseconds, pending = (int(field) for field in tokens[start : start + 4])
        return cls(seq, consumer_seq, nanoseconds / 1e9, pending)


def is_stored(message: Msg) -> bool:
    """Whether a stream holds it, or JetStream itself says something; the headers are their sender's, and do not tell."""
    return message.reply.startswith("$JS.ACK.")


def _is_idle(message: Msg) -> bool:
    """Whether this heartbeat says that there is nothing to be delivered now."""
    headers = message.headers or {}
    return "Nats-Last-Consumer" in headers and "Nats-Consumer-Stalled" not in headers


async def tell_end(over: asyncio.Event, inbox: "asyncio.Queue[Msg | None]") -> None:
    """Put None into `inbox` when the connection's life is over."""
    await over.wait()
    await inbox.put(None)
