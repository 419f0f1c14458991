"""The work queue `troupe_tasks`: tasks that wait until a worker has room, pulled by lane and priority."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from bus.append import append
from bus.connection import Connection
from bus.errors import BusAway, BusError, QueueFull, StreamFull
from bus.lane_order import LaneOrder
from bus.reader import is_stored, tell_end
from bus.streams import Streams
from bus.subjects import Subjects, token
from schemas.ids import ModelId
from schemas.task import LANES, Lane, Task
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

PULL_S = 20.0
"""How long one pull waits at the server before it is sent again; seconds."""
HEARTBEAT_S = 2.0
LOST_S = 2.5 * HEARTBEAT_S
"""A pull that brings neither a task nor a heartbeat for so long does not wait any more: it, or its answer, was lost where the
bus was cut between two servers, of which nobody tells; seconds."""
ACK_WAIT_S = 3.0
"""A task that was handed out but not taken goes to somebody else after this; seconds."""
GROUP = "workers"
_UNSENT = (ConnectionClosedError, OutboundBufferLimitError)
LONGEST_NAME = 200
_packed = msgspec.msgpack.Encoder()
_task = msgspec.msgpack.Decoder(Task)


class Ticket(Struct, frozen=True):
    """The place of a task in the queue."""

    seq: int


class Pulled(Struct, frozen=True):
    """A task that was handed to this worker, to be taken or given back."""

    task: Task
    message: Any

    async def take(self) -> None:
        """It is ours now: nobody else gets it. Raises `BusAway`."""
        try:
            await self.message.ack()
        except _UNSENT as failure:
            raise BusAway("the bus is away: a task cannot be taken") from failure

    async def give_back(self) -> None:
        """Somebody else may have it at once; when this is lost, a little later."""
        with suppress(*_UNSENT):
            await self.message.nak()


class WorkQueue:
    """Tasks for all models; raises `BusAway` while the bus cannot be reached."""

    def __init__(self, connection: Connection, cluster: str) -> None:
        self._connection = connection
        self._subjects = Subjects(cluster)
        self._stream = Streams(cluster).tasks

    async def put(self, task: Task, ttl_s: float) -> Ticket:
        """Leave a task for whoever has room first; it goes by itself after `ttl_s` seconds (at least 1)."""
        subject = self._subjects.task(task.model, task.lane)
        headers = {
            "Nats-Msg-Id": f"{task.request}.{task.attempt}",
            "Nats-TTL": f"{max(1, round(ttl_s))}s",
        }
        try:
            return Ticket(await append(self._connection, subject, _packed.encode(task), headers, timeout_s=5))
        except StreamFull as full:
            raise QueueFull("too many requests wait already") from full

    async def remove(self, ticket: Ticket) -> bool:
        """Take a waiting task back; False when a worker has it already. Raises `BusAway`."""
        self._connection.require_up()
        try:
            return await self._connection.jetstream.delete_msg(self._stream, ticket.seq)
        except APIError:
            return False
        except (NatsError, TimeoutError) as failure:
            raise BusAway("the bus is away: a waiting task cannot be removed") from failure

    async def holds(self, ticket: Ticket) -> bool:
        """Whether no worker has taken the task yet; raises `BusAway`."""
        self._connection.require_up()
        try:
            await self._connection.jetstream.get_msg(self._stream, ticket.seq)
        except NotFoundError:
            return False
        except (NatsError, TimeoutError) as failure:
            raise BusAway("the bus is away: it cannot be asked for a waiting task") from failure
        return True

    @asynccontextmanager
    async def pulls(self, model: ModelId, priority: int = 0) -> AsyncGenerator["Pulls"]:
        """A worker's way to this model's tasks; `priority` 0 is served first, 9 last."""
        pulls = Pulls(self._connection, self._stream, self._subjects, model, priority)
        await pulls.prepare()
        try:
            yield pulls
        finally:
            await pulls.leave()


class Pulls:
    """Hands out one task at a time, the most urgent lane first, but each lane that waits in its turn (`LaneOrder`)."""

    def __init__(
        self, connection: Connection, stream: str, subjects: Subjects, model: ModelId, priority: int
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._subjects = subjects
        self._model = model
        self._priority = priority
        self._order = LaneOrder()
        self._ending: set[asyncio.Task[None]] = set()

    async def leave(self) -> None:
        """When tasks that are still on their way have been given back."""
        if self._ending:
            await asyncio.wait(self._ending)

    async def prepare(self) -> None:
        """Make the consumers of this model's lanes, where they are missing."""
        for lane in LANES:
            await self._make_consumer(lane)

    def _consumer(self, lane: Lane) -> str:
        """Named after the model; the server takes names of 255 characters at most."""
        name = token(self._model)
        return f"{name if len(name) <= LONGEST_NAME else sha256(name.encode()).hexdigest()}_{lane}"

    async def _make_consumer(self, lane: Lane) -> None:
        """nats-py does not know priority groups: the request is made by hand."""
        name = self._consumer(lane)
        configuration: dict[str, object] = {
            "durable_name": name,
            "filter_subject": self._subjects.task(self._model, lane),
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * 1e9),
            "max_ack_pending": 10_000,
            "inactive_threshold": int(24 * 3600 * 1e9),
            "priority_groups": [GROUP],
            "priority_policy": "prioritized",
        }
        request: dict[str, object] = {"stream_name": self._stream, "config": configuration}
        subject = f"{self._connection.api}.CONSUMER.CREATE.{self._stream}.{name}"
        reply = await self._connection.request(subject, msgspec.json.encode(request), 5.0)
        error = msgspec.json.decode(reply.data, type=_Reply).error
        if error:
            raise BusError(f"the queue of {self._model} cannot be pulled: {error.get('description')}")

    async def next(self, lanes: Sequence[Lane] = LANES) -> Pulled:
        """Wait for a task in one of `lanes`, through losses of the bus."""
        while True:
            await self._connection.until_up()
            with suppress(BusAway, TimeoutError):
                pulled = await self._waiting(lanes) or await self._coming(lanes)
                if pulled is not None:
                    return pulled

    async def _waiting(self, lanes: Sequence[Lane]) -> Pulled | None:
        """A task that is there already: the lanes are asked one after the other."""
        for lane in self._order.lanes():
            if lane not in lanes:
                continue
            pulled = await self._pull((lane,), {"no_wait": True})
            self._order.note(lane, found=pulled is not None)
            if pulled is not None:
                return pulled
        return None

    async def _coming(self, lanes: Sequence[Lane]) -> Pulled | None:
        """The first task that comes in any of them."""
        return await self._pull(
            lanes, {"expires": int(PULL_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        )

    async def _pull(self, lanes: Sequence[Lane], how: Mapping[str, object]) -> Pulled | None:
        inbox: asyncio.Queue[Msg | None] = asyncio.Queue()
        address = self._connection.client.new_inbox()
        subscription = await self._connection.subscribe(f"{address}.*", inbox.put)
        over = self._connection.life_event()
        watch = asyncio.create_task(tell_end(over, inbox))
        more = True
        try:
            await self._ask(address, lanes, how)
            first = await self._first(inbox, [f"{address}.{lane}" for lane in lanes])
            more = len(lanes) > 1
        finally:
            watch.cancel()
            self._connection.forget(over)
            ending = asyncio.create_task(self._end(subscription, inbox, more=more))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        return None if first is None else await self._decoded(first)

    async def _ask(self, address: str, lanes: Sequence[Lane], how: Mapping[str, object]) -> None:
        request = {"batch": 1, "group": GROUP, "priority": self._priority, **how}
        payload = msgspec.json.encode(request)
        for lane in lanes:
            subject = f"{self._connection.api}.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer(lane)}"
            try:
                await self._connection.client.publish(subject, payload, reply=f"{address}.{lane}")
            except _UNSENT as failure:
                raise BusAway("the bus is away: nothing can be pulled") from failure

    async def _first(self, inbox: "asyncio.Queue[Msg | None]", pulls: Sequence[str]) -> Msg | None:
        """The first task that comes; None when one of the pulls is over, or the connection was made anew."""
        heard = dict.fromkeys(pulls, time.monotonic())
        while True:
            async with asyncio.timeout(min(heard.values()) + LOST_S - time.monotonic()):
                message = await inbox.get()
            if message is None or is_stored(message):
                return message
            if not _is_heartbeat(message):
                if _consumer_gone(message):
                    await self.prepare()
                return None
            heard[message.subject] = time.monotonic()

    async def _end(self, subscription: Any, inbox: "asyncio.Queue[Msg | None]", *, more: bool) -> None:
        """What came besides goes back at once, and what is still on its way, where there may be more.

        A task of its own: who takes the first one does not wait for it, and who is cancelled does not interrupt it.
        """
        await (self._connection.hear_out if more else self._connection.unsubscribe)(subscription)
        while not inbox.empty():
            message = inbox.get_nowait()
            if message is not None and is_stored(message):
                with suppress(*_UNSENT):
                    await message.nak()

    async def _decoded(self, message: Msg) -> Pulled | None:
        try:
            return Pulled(_task.decode(message.data), message)
        except UNREADABLE as garbage:
            log.warning("task.garbage", subject=message.subject, reason=str(garbage))
            with suppress(*_UNSENT):
                await message.term()
            return None


class _Reply(Struct):
    error: dict[str, object] | None = None


def _is_heartbeat(message: Msg) -> bool:
    return (message.headers or {}).get("Status") == "100"


def _consumer_gone(message: Msg) -> bool:
    """No responders, or a deleted consumer: it must be made again."""
    headers = message.headers or {}
    return headers.get("Status") == "503" or "Consumer Deleted" in headers.get("Description", "")
