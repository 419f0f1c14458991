"""The bus as an actor's process sees it: typed publish, ask and listen, the log, the state, the queue."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, OutboundBufferLimitError
from nats.errors import Error as NatsError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bus.address import public
from bus.audits import Audits
from bus.blobs import Blobs
from bus.claims import Claims
from bus.clusters import limits_of
from bus.connection import Connection
from bus.errors import BusAway, BusError
from bus.lease import Leases
from bus.log import Log
from bus.queue import WorkQueue
from bus.shared_secret import SharedSecrets
from bus.snapshots import Snapshots
from bus.streams import StreamLimits, Streams, make_streams
from bus.subjects import Subjects
from bus.view import View
from schemas.ids import InstanceId, NodeId, RequestId
from schemas.refused import Refused
from schemas.task import FindAnswer, FindTasks, OfferAnswer, Task
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

T = TypeVar("T")
_packed = msgspec.msgpack.Encoder()
_offer_answer = msgspec.msgpack.Decoder[OfferAnswer](OfferAnswer).decode
_find_answer = msgspec.msgpack.Decoder[FindAnswer](FindAnswer).decode


class Bus:
    """One connection to NATS, with everything that stands on it."""

    def __init__(
        self,
        connection: Connection,
        cluster: str,
        node: NodeId,
        lease_ttl_s: float,
        limits: StreamLimits | None = None,
    ) -> None:
        names = Streams(cluster)
        self.connection = connection
        connection.settled = True
        self._limits = limits
        self.cluster = cluster
        self.node = node
        self.subjects = Subjects(cluster)
        self.log = Log(connection, cluster, node)
        self.view = View(connection, cluster, self.log)
        self.leases = Leases(connection, cluster, lease_ttl_s)
        self.snapshots = Snapshots(connection, cluster)
        self.queue = WorkQueue(connection, cluster)
        self.audits = Audits(connection, cluster)
        self.claims = Claims(connection, cluster)
        self.artifacts = Blobs(connection, names.artifacts)
        self.payloads = Blobs(connection, names.payloads)
        self.secrets = SharedSecrets(connection, cluster)
        self._noted: set[str] = set()

    @classmethod
    async def connect(
        cls,
        url: str,
        cluster: str,
        name: str,
        node: NodeId,
        *,
        limits: StreamLimits | None = None,
        lease_ttl_s: float = 3.0,
        deadline_s: float = 10.0,
        joins: bool = False,
    ) -> "Bus":
        """Connect and make the cluster's streams where they are missing.

        `joins`: the cluster is there, or will be in a moment; `NoCluster` when only others are.
        Raises `BusAway` when nothing answers within `deadline_s` seconds, `UnusableServer` for a server that
        is too old or has no JetStream, ValueError for a cluster name that no subject can hold.
        """
        Subjects(cluster)
        connection = await Connection.open(url, name, deadline_s)
        try:
            limits = await _until_made(connection, cluster, limits, deadline_s, joins=joins)
        except BusError:
            await connection.close()
            raise
        except (NatsError, TimeoutError) as failure:
            await connection.close()
            connection.require_permitted()
            raise BusAway(f"the bus at {public(url)} went away while its streams were looked at") from failure
        return cls(connection, cluster, node, lease_ttl_s, limits)

    async def mend_streams(self) -> None:
        """Make what is missing: a stream in memory is lost with its server. Raises `BusAway`."""
        try:
            await make_streams(self.connection.jetstream, self.cluster, self._limits)
        except (NatsError, TimeoutError) as failure:
            raise BusAway("the bus went away while its streams were looked at") from failure

    @property
    def connected(self) -> bool:
        return self.connection.up

    async def until_connected(self) -> None:
        await self.connection.until_up()

    async def answers(self, timeout_s: float) -> bool:
        """Whether the bus answers at this moment; `connected` learns of a frozen one some seconds late."""
        return self.connected and await self.connection.answers(timeout_s)

    async def send(self, subject: str, message: Struct) -> None:
        """Publish a message as JSON; whoever listens now gets it."""
        await self.connection.publish(subject, msgspec.json.encode(message))

    async def send_raw(self, subject: str, payload: bytes) -> None:
        await self.connection.publish(subject, payload)

    def post(self, subject: str, payload: bytes) -> None:
        """`send_raw` without an await, for hot paths; raises `BusAway` when too much waits to be sent."""
        self.connection.post(subject, payload)

    async def ask(self, subject: str, message: Struct, answers: Any, timeout_s: float = 2.0) -> Any:
        """Send a message as JSON and decode the reply as one of `answers` (a type or a union).

        Raises `BusAway`, `NobodyThere` or `NoAnswer`.
        """
        reply = await self.connection.request(subject, msgspec.json.encode(message), timeout_s)
        return msgspec.json.decode(reply.data, type=answers)

    async def offer(self, instance: InstanceId, task: Task, timeout_s: float = 2.0) -> OfferAnswer:
        """Ask an instance to work on a task at once."""
        reply = await self.connection.request(self.subjects.run(instance), _packed.encode(task), timeout_s)
        return _offer_answer(reply.data)

    async def find_tasks(
        self, instance: InstanceId, attempts: Sequence[tuple[RequestId, int]], timeout_s: float = 2.0
    ) -> FindAnswer:
        """Ask an instance which of these attempts it still works on; older versions refuse."""
        question = _packed.encode(FindTasks(attempts=tuple(attempts)))
        reply = await self.connection.request(self.subjects.run(instance), question, timeout_s)
        return _find_answer(reply.data)

    @asynccontextmanager
    async def listening(self, subject: str, on_message: Callable[[bytes, str], None]) -> AsyncGenerator[None]:
        """Call `on_message(payload, subject)` for each message, in order, while the block runs."""

        async def hand_over(message: Msg) -> None:
            on_message(message.data, message.subject)

        subscription = await self.connection.subscribe(subject, hand_over)
        try:
            yield
        finally:
            await self.connection.unsubscribe(subscription)

    @asynccontextmanager
    async def serving(
        self,
        subject: str,
        requests: Any,
        handler: Callable[[Any], Awaitable[Struct | None]],
        *,
        packed: bool = False,
    ) -> AsyncGenerator[None]:
        """Answer each message of type `requests` with what `handler` returns, one after the other; None: say nothing.

        What cannot be read is answered with a refusal that says why. `packed` stands for MessagePack.
        """
        codec = msgspec.msgpack if packed else msgspec.json
        decode = codec.Decoder(requests).decode
        encode = codec.Encoder().encode

        async def answer(message: Msg) -> None:
            try:
                request = decode(message.data)
            except UNREADABLE as unreadable:
                self.note_garbage(subject, unreadable)
                reply: Struct | None = Refused(
                    "bad_request", f"this is no message for {subject}: {unreadable}"
                )
            else:
                reply = await handler(request)
            if reply is not None:
                await self._reply(message, encode(reply))

        subscription = await self.connection.subscribe(subject, answer)
        try:
            yield
        finally:
            await self.connection.unsubscribe(subscription)

    async def _reply(self, message: Msg, payload: bytes) -> None:
        if not message.reply:
            return
        try:
            await message.respond(payload)
        except (ConnectionClosedError, OutboundBufferLimitError):
            log.warning("reply.lost", subject=message.subject)

    def note_garbage(self, subject: str, reason: Exception) -> None:
        """Said once for each subject, so that a flood of garbage is no flood of lines."""
        if subject not in self._noted:
            self._noted.add(subject)
            log.warning("message.garbage", subject=subject, reason=str(reason))

    async def close(self) -> None:
        await self.view.stop()
        await self.connection.close()


async def _until_made(
    connection: Connection, cluster: str, limits: StreamLimits | None, deadline_s: float, *, joins: bool
) -> StreamLimits | None:
    """Make the streams, as soon as enough servers of the bus are there; who joins, as they are made already."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((BusAway, NatsError, TimeoutError)),
        wait=wait_random_exponential(multiplier=0.1, max=1.0),
        stop=stop_after_delay(deadline_s),
        reraise=True,
    ):
        with attempt:
            connection.require_permitted()
            limits = await limits_of(connection, cluster) if joins else limits
            await make_streams(connection.jetstream, cluster, limits)
    return limits
