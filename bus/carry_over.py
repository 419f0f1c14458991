"""A single server's streams, carried over into a bus of three: with their sequences, times and times to live."""

import asyncio
from pathlib import Path
from typing import Any, cast

import msgspec
import structlog
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bus.clusters import CARRIER, carrier_of
from bus.connection import Connection
from bus.errors import BusAway, BusError, NoAnswer, NobodyThere, UnusableServer
from bus.server import Server
from bus.store_shape import StoreShape
from bus.streams import StreamLimits, Streams, make_stream
from bus.subjects import Subjects

log = structlog.get_logger()

ANSWER_S = 60.0
"""How long a server may take for one step of a copy; the last one, when a large stream is read again, is the longest."""
HEARD_S = 10.0
"""How long it may take until all servers know where the parts of a copy are to go."""
CHUNK_BYTES = 256 * 1024
_Raw = dict[str, Any]


class CarryOver:
    """What the data folder of a single server holds, on its way into the bus that its server is one of now.

    The old store stays as it was. Until the last stream is there a marker on the bus keeps everybody else waiting, so
    that whoever is killed on the way finds either nothing begun or all of it, and begins again.
    """

    def __init__(self, folder: Path, cluster: str) -> None:
        self._shape = StoreShape(folder)
        self._folder = folder
        self._cluster = cluster

    @property
    def pending(self) -> bool:
        return self._shape.read() in ("carrying", "carried")

    async def prepare(self) -> None:
        """Set the store of a single server aside, where there is one; then its folder may become one of three."""
        shape = self._shape.read()
        if shape == "alone":
            left = Server(self._folder)
            if left.adopt():
                await left.stop()
        if shape in ("alone", "carrying"):
            try:
                self._shape.set_aside()
            except FileExistsError as failure:
                raise UnusableServer(
                    f"{failure} holds what was carried over earlier: move it away first"
                ) from failure

    async def run(self, url: str, deadline_s: float) -> None:
        """Carry everything over, as soon as all servers are there; raises `BusAway` or `UnusableServer`."""
        target = await Connection.open(url, "carry-over", deadline_s)
        try:
            if self._shape.read() == "carrying":
                await self._carry(target, deadline_s)
                self._shape.write("carried")
            await _delete(target, Streams(self._cluster).carrying)
        finally:
            await target.close()
        self._shape.write("one of several")
        log.info("bus.carried", kept=str(self._shape.aside))

    async def _carry(self, target: Connection, deadline_s: float) -> None:
        old = Server(self._shape.aside, port=0)
        await old.start()
        try:
            source = await Connection.open(old.url, "carry-over")
            try:
                await self._copy_all(source, target, deadline_s)
            finally:
                await source.close()
        finally:
            await old.stop()

    async def _copy_all(self, source: Connection, target: Connection, deadline_s: float) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((BusAway, NobodyThere, NoAnswer, NatsError, TimeoutError)),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            stop=stop_after_delay(deadline_s),
            reraise=True,
        ):
            with attempt:
                kept = await _kept(source)
                await self._begin(target, kept)
                for name in kept:
                    await _delete(target, name)
                    messages = await Copy(source, target, name).run()
                    log.info("stream.carried", stream=name, messages=messages)

    async def _begin(self, target: Connection, kept: list[str]) -> None:
        """Put up the marker; raises `UnusableServer` where somebody else's is, or something that would be written over."""
        ours = self._shape.carrier()
        found = await carrier_of(target, self._cluster)
        if found is None:
            await self._require_free(target, kept)
            await make_stream(target.jetstream, self._marker(ours))
            found = await carrier_of(target, self._cluster)
        if found != ours:  # another one may have been quicker
            raise UnusableServer(
                "what another single server had stored is being carried over into the three already: "
                f"carry over from one machine alone; what this one had stored lies in {self._shape.aside}"
            )

    async def _require_free(self, target: Connection, kept: list[str]) -> None:
        there = await _infos(target)
        if Streams(self._cluster).events in there:
            raise UnusableServer(
                f"the three servers carry a cluster named {self._cluster!r} already, and nothing is carried over into "
                f"it; what the single server had stored lies in {self._shape.aside}"
            )
        if both := sorted(set(kept) & there.keys()):
            raise UnusableServer(
                f"the three servers have streams that the single server had, too, and nothing is written over: "
                f"{', '.join(both)}; what it had stored lies in {self._shape.aside}"
            )

    def _marker(self, carrier: str) -> StreamConfig:
        return StreamConfig(
            name=Streams(self._cluster).carrying,
            description="A single server's streams are being carried over: wait",
            subjects=[Subjects(self._cluster).carrying],
            num_replicas=StreamLimits.of_three().replicas,
            metadata={CARRIER: carrier},
        )


class _State(Struct):
    messages: int
    first_seq: int
    last_seq: int

    def whole(self, copy: "_State", *, by_ttl: bool) -> bool:
        """Whether `copy` has lost nothing but what has expired meanwhile: the oldest, or `by_ttl` any."""
        if by_ttl:
            return copy.last_seq >= self.last_seq
        expired = copy.first_seq - self.first_seq
        return copy.last_seq == self.last_seq and copy.messages >= self.messages - expired


class _Answer(Struct):
    """What JetStream says to a snapshot, and to the end of a restore."""

    config: _Raw = {}
    state: _Raw = {}
    deliver_subject: str = ""
    error: _Raw | None = None


class Copy:
    """One stream, by the server's own snapshot, so that nothing of a message is made anew."""

    def __init__(self, source: Connection, target: Connection, name: str) -> None:
        self._source = source
        self._target = target
        self._name = name

    async def run(self) -> int:
        """How many messages it has; raises `BusError` when the copy is not like what it was made of."""
        chunks: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self._source.client.new_inbox()
        subscription = await self._source.subscribe(inbox, chunks.put)
        try:
            taken = await self._ask(
                self._source,
                "SNAPSHOT",
                {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES},
            )
            made = await self._restore(taken, chunks)
        finally:
            await self._source.unsubscribe(subscription)
        before, after = (msgspec.convert(one.state, _State) for one in (taken, made))
        if not before.whole(after, by_ttl=bool(taken.config.get("allow_msg_ttl"))):
            raise BusError(f"the copy of the stream {self._name} differs: {before} became {after}")
        return after.messages

    async def _restore(self, taken: _Answer, chunks: "asyncio.Queue[Msg]") -> _Answer:
        config = {**taken.config, "num_replicas": StreamLimits.of_three().replicas}
        opened = await self._ask(self._target, "RESTORE", {"config": config, "state": taken.state})
        while True:
            async with asyncio.timeout(ANSWER_S):
                chunk = await chunks.get()
            reply = await self._send(opened.deliver_subject, chunk.data)
            if not chunk.data:
                return _answer(self._name, reply)
            if chunk.reply:
                await chunk.respond(b"")

    async def _send(self, subject: str, chunk: bytes) -> Msg:
        """The server that asked for it may be another one, whose subscription is on its way."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(NobodyThere),
            wait=wait_random_exponential(multiplier=0.05, max=0.5),
            stop=stop_after_delay(HEARD_S),
            reraise=True,
        ):
            with attempt:
                return await self._target.request(subject, chunk, ANSWER_S)
        raise AssertionError("tenacity either returns or raises")

    async def _ask(self, connection: Connection, verb: str, request: _Raw) -> _Answer:
        subject = f"{connection.api}.STREAM.{verb}.{self._name}"
        return _answer(self._name, await connection.request(subject, msgspec.json.encode(request), ANSWER_S))


def _answer(stream: str, reply: Msg) -> _Answer:
    answer = msgspec.json.decode(reply.data, type=_Answer)
    if answer.error:
        raise BusAway(f"the stream {stream} cannot be carried over: {answer.error.get('description')}")
    return answer


async def _kept(source: Connection) -> list[str]:
    """The streams that a restart of the server would leave; what is in memory is made anew."""
    return [
        name for name, info in (await _infos(source)).items() if info.config.storage is not StorageType.MEMORY
    ]


async def _infos(connection: Connection) -> dict[str, StreamInfo]:
    """All streams, by their names."""
    infos: list[StreamInfo] = []
    while page := await connection.jetstream.streams_info(offset=len(infos)):
        infos += page
    return {cast("str", info.config.name): info for info in infos}


async def _delete(target: Connection, stream: str) -> None:
    try:
        await target.jetstream.delete_stream(stream)
    except NotFoundError:
        return
