"""One connection to NATS that never gives up: errors as sentences, and a way to wait until it is back."""

import asyncio
import logging
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import (
    ConnectionClosedError,
    MaxPayloadError,
    NoRespondersError,
    NoServersError,
    OutboundBufferLimitError,
)
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServiceUnavailableError

from bus.address import BadAddress, BusAddress, public
from bus.errors import BusAway, BusError, NoAnswer, NobodyThere, TooLarge, UnusableServer

log = structlog.get_logger()
logging.getLogger("asyncio").addFilter(
    lambda record: "eof_received() has no effect" not in record.getMessage()
)
"""Streams over TLS warn of this, each time one ends (CPython issue 80620); it means nothing."""

OLDEST_SERVER = (2, 12)
MAX_PENDING_BYTES = 32 * 1024 * 1024
"""What may wait to be sent, while the bus is away too; bytes."""
CLOSE_S = 0.5
HEAR_OUT_S = 0.8
"""How long it may take to hear what is on its way; a runner that leaves has a second for all."""
LINK_S = 3.0
"""How long a leaf server that has just started may take to reach its hub."""
_DENIED = re.compile(r'Permissions Violation for (Publish|Subscription) to "([^"]+)"')
PERMISSIONS, MOST_DENIALS = "permissions violation", 100
NO_QUORUM = (10008, 10009)
"""JetStream's words for: the other servers are not there."""
PING_S = 2
"""A server that leaves three pings unanswered is away: known within 6 s, sooner than a silent runner is ended."""


class CancellableClient(Client):
    """nats-py waits by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that meets the reply."""

    async def request(self, *args: Any, **kwargs: Any) -> Msg:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0  # a TaskGroup that failed has left its own count behind
        reply = await super().request(*args, **kwargs)
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
        return reply

    async def _attempt_reconnect(self) -> None:
        """A connection that is lost is cut, not closed: over TLS, and with something unsent, that takes half a minute."""
        writer: asyncio.StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py

    complaint = ""
    """The server's last one, in its own words."""

    async def _process_err(self, err_msg: str) -> None:
        """nats-py makes it lower case before it hands it on; subjects are not."""
        said, _, _ = bytes(self._ps.buf).partition(b"\r\n")
        self.complaint = said.decode(errors="replace")
        await super()._process_err(err_msg)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py

    def sign_as(self, nkey: str) -> None:
        """Under which key the server knows us, where no JWT says it; nats-py takes it with its own signing alone."""
        self._public_nkey = nkey

    def give_up_requests(self) -> None:
        """What was asked over a connection that is gone gets no answer any more: say so now, not after a time-out."""
        asked = cast("dict[str, asyncio.Future[Msg]]", self._resp_map)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
        for waiting in list(asked.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionClosedError())


class Connection:
    """A nats-py client whose life is watched."""

    def __init__(self, client: CancellableClient, url: str, name: str) -> None:
        self.client = client
        self.url = url
        self.name = name
        self.lives = 0
        """How many times the connection was made; grows at each reconnect."""
        self._since = time.monotonic()
        self.closed = asyncio.Event()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._life_began: list[asyncio.Event] = []
        self.domain = BusAddress.read(url).domain
        self.jetstream: JetStreamContext = client.jetstream(timeout=5, domain=self.domain or None)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
        self._denials: dict[str, str] = {}
        """What the server did not permit, by its subject, as a sentence."""
        self._denied = asyncio.Event()
        self.settled = False
        """Whether it is in use: until then one thing that is not permitted ends it."""

    @classmethod
    async def open(cls, url: str, name: str, deadline_s: float = 10.0) -> "Connection":
        """Connect within `deadline_s` seconds, or raise `BusAway`; later losses are mended without end.

        Raises `UnusableServer` for a server that does not let this node in, or cannot carry a cluster.
        """
        try:
            connection = cls(CancellableClient(), url, name)
        except BadAddress as failure:
            raise UnusableServer(str(failure)) from failure
        try:
            async with asyncio.timeout(deadline_s):
                await connection._connect()
        except BadAddress as failure:
            raise UnusableServer(str(failure)) from failure
        except UnusableServer:
            await connection.close()
            raise
        except (TimeoutError, NoServersError, OSError, NatsError) as failure:
            await connection.close()
            why = str(failure) or f"nothing was heard within {deadline_s:g} s"
            raise BusAway(f"no NATS server answers at {public(url)}: {why}") from failure
        await connection._require_usable(deadline_s)
        return connection

    async def _connect(self) -> None:
        address = BusAddress.read(self.url)
        options = address.options()
        if address.nkey and (credentials := address.credentials()) is not None:
            del options["user_jwt_cb"]
            self.client.sign_as(credentials.public)
        while True:
            try:
                await self.client.connect(
                    address.url,
                    **options,
                    name=self.name,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    connect_timeout=2,
                    reconnect_time_wait=random.uniform(0.1, 0.4),  # type: ignore[arg-type]  # a float works, and spreads the return
                    ping_interval=PING_S,
                    max_outstanding_pings=2,
                    pending_size=MAX_PENDING_BYTES,
                    skip_subject_validation=True,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_lost,
                    reconnected_cb=self._on_back,
                    closed_cb=self._on_closed,
                )
                break
            except (NoServersError, OSError):
                await asyncio.sleep(0.1)
        self._begin_life()

    async def _require_usable(self, deadline_s: float) -> None:
        version = self.client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            await self.close()
            raise UnusableServer(
                f"the NATS server at {public(self.url)} is version {version!s}; "
                f"Troupe needs {OLDEST_SERVER[0]}.{OLDEST_SERVER[1]} or later (message TTL, prioritised consumers)"
            )
        try:
            await self._until_quorum(deadline_s)
        except (NatsError, NatsTimeout) as failure:
            await self.close()
            self.require_permitted()
            raise UnusableServer(
                f"the NATS server at {public(self.url)} has no JetStream: start it with `-js` "
                f"or a `jetstream` block in its configuration; if it is a leaf, its hub is not reached ({_said(failure)})"
            ) from failure

    async def _until_quorum(self, deadline_s: float) -> None:
        """Several servers that are one bus carry nothing until more than half of them are there."""
        began = time.monotonic()
        while True:
            try:
                await self.jetstream.account_info()
                return
            except (APIError, NatsTimeout, ConnectionClosedError) as failure:
                patience_s = min(deadline_s, LINK_S) if _nobody_answers(failure) else deadline_s
                if not _may_come(failure) or self._denials or time.monotonic() - began > patience_s:
                    raise
                log.info("bus.waiting", url=public(self.url), reason=_said(failure))
                await asyncio.sleep(0.5)

    def require_permitted(self, subject: str = "") -> None:
        """Raises `UnusableServer` when the server has not permitted something, or that `subject`."""
        for denied, sentence in self._denials.items():
            if subject in ("", denied):
                raise UnusableServer(sentence)

    async def until_denied(self) -> str:
        """Wait until the server does not permit something; returns the sentence."""
        await self._denied.wait()
        return next(iter(self._denials.values()))

    @property
    def api(self) -> str:
        """What all requests to JetStream begin with."""
        return f"$JS.{self.domain}.API" if self.domain else "$JS.API"

    def writing(self, key: str) -> str:
        """Where a bucket's key (`$KV.troupe_state.head`) is written: leaves let it through in a domain's name alone."""
        return f"{self.api}.{key}" if self.domain else key

    @property
    def steady_s(self) -> float:
        """Seconds since the connection was made last, or since the bus last left something unanswered."""
        return time.monotonic() - self._since

    @property
    def up(self) -> bool:
        return self.client.is_connected

    def note_silence(self) -> None:
        """The bus did not answer in time: it may have been frozen, and for others too."""
        self._since = time.monotonic()

    async def until_up(self) -> None:
        """Wait until the bus can be reached; raises `BusError` when this connection was closed for good."""
        if not self.up:
            self._up.clear()  # nats-py says later that it was lost
        while not self._up.is_set():
            waits = [asyncio.ensure_future(self._up.wait()), asyncio.ensure_future(self.closed.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self.closed.is_set():
                raise BusError("this connection to the bus was closed")

    async def until_down(self) -> None:
        """Wait until the loss of the bus is noticed."""
        await self._down.wait()

    async def answers(self, timeout_s: float) -> bool:
        """Whether the server answers now; what it sent before its answer has been delivered then."""
        asked = asyncio.create_task(self._answered())
        await asyncio.wait((asked,), timeout=timeout_s)
        return asked.done() and asked.result()

    async def _answered(self) -> bool:
        """Not to be cancelled: nats-py reads no more when an answer comes to somebody who was."""
        try:
            await self.client.flush()
        except (NatsError, TimeoutError, OSError, RuntimeError):  # uvloop's, where the transport went first
            return False
        return True

    def life_event(self) -> asyncio.Event:
        """An event that is set when the connection's present life ends in a reconnect."""
        event = asyncio.Event()
        self._life_began.append(event)
        return event

    def forget(self, event: asyncio.Event) -> None:
        with suppress(ValueError):
            self._life_began.remove(event)

    async def request(
        self, subject: str, payload: bytes, timeout_s: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask and wait; raises `BusAway`, `NobodyThere`, `NoAnswer` or `TooLarge`."""
        self.require_up()
        self.require_fits(subject, payload)
        try:
            return await self.client.request(subject, payload, timeout=timeout_s, headers=headers)
        except NoRespondersError as failure:
            raise NobodyThere(f"nobody listens on {subject}") from failure
        except (NatsTimeout, TimeoutError) as failure:
            if not self.up:
                raise BusAway(f"the bus went away before {subject} was answered") from failure
            raise NoAnswer(f"no answer on {subject} within {timeout_s:g} s") from failure
        except (ConnectionClosedError, OutboundBufferLimitError) as failure:
            raise BusAway(f"the bus is away: {_said(failure)}") from failure

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Send without waiting; raises `BusAway` when nothing more can be kept for sending, and `TooLarge`."""
        self.require_fits(subject, payload)
        try:
            await self.client.publish(subject, payload, headers=headers)
        except (ConnectionClosedError, OutboundBufferLimitError) as failure:
            raise BusAway(f"the bus is away: {_said(failure)}") from failure

    def post(self, subject: str, payload: bytes) -> None:
        """`publish` for hot paths: no await. nats-py's publish only suspends when its buffer is full."""
        if self.client.pending_data_size + len(payload) >= MAX_PENDING_BYTES:
            raise BusAway("the bus takes no more: too much waits to be sent")
        try:
            self.client.publish(subject, payload).send(None)
        except StopIteration:
            return
        except MaxPayloadError as failure:
            raise self._too_large(subject, payload) from failure
        except (ConnectionClosedError, OutboundBufferLimitError) as failure:
            raise BusAway(f"the bus is away: {_said(failure)}") from failure

    async def subscribe(self, subject: str, on_message: Callable[[Msg], Awaitable[None]]) -> Any:
        try:
            return await self.client.subscribe(subject, cb=on_message)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
        except ConnectionClosedError as failure:
            raise BusAway("the bus is away: this connection was closed") from failure

    async def unsubscribe(self, subscription: Any) -> None:
        with suppress(NatsError, OSError):
            await subscription.unsubscribe()

    async def hear_out(self, subscription: Any) -> None:
        """`unsubscribe`, once all that is on its way has been delivered; at once where the bus is away.

        nats-py's own `drain` loses some: its ping overtakes what waits to be sent, the word that nothing more is wanted.
        """
        if self.up:
            with suppress(NatsError, OSError):
                await self.client._send_unsubscribe(subscription._id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its public ones forget it at once, too
            for _ in "overtakes", "follows":
                await self.answers(HEAR_OUT_S / 2)
        await self.unsubscribe(subscription)

    def require_up(self) -> None:
        if not self.up:
            raise BusAway(f"the bus at {public(self.url)} is away; reconnecting")

    def require_fits(self, subject: str, payload: bytes) -> None:
        if len(payload) > self.client.max_payload:
            raise self._too_large(subject, payload)

    def _too_large(self, subject: str, payload: bytes) -> TooLarge:
        most = self.client.max_payload
        return TooLarge(f"a message of {len(payload)} bytes is too large for {subject}: the bus takes {most}")

    async def close(self) -> None:
        """Send what waits, then leave; never raises."""
        self._up.clear()
        with suppress(NatsError, OSError, TimeoutError, asyncio.InvalidStateError):
            if self.up:
                await self.client.flush(timeout=1)
        with suppress(
            NatsError, OSError, TimeoutError, RuntimeError
        ):  # uvloop's, where the transport went first
            async with asyncio.timeout(CLOSE_S):  # before Python 3.12 a failed handshake is never closed
                await self.client.close()
        self.closed.set()

    def _begin_life(self) -> None:
        self.lives += 1
        self._since = time.monotonic()
        self._up.set()
        self._down.clear()
        for event in self._life_began:
            event.set()
        self._life_began.clear()

    async def _on_error(self, failure: Exception) -> None:
        """While it connects for the first time: ends that where trying again cannot help."""
        if not self.lives and (refusal := _refusal(failure, public(self.url))):
            raise UnusableServer(refusal) from failure
        if PERMISSIONS in str(failure) and (denied := _DENIED.search(self.client.complaint)):
            self._deny(denied[1].lower(), denied[2])
        elif self._up.is_set():
            log.warning("bus.error", connection=self.name, reason=_said(failure))

    def _deny(self, what: str, subject: str) -> None:
        """Told of each subject once; whoever is answered may choose the subject, so that they are bounded."""
        if subject in self._denials or len(self._denials) >= MOST_DENIALS:
            return
        permission = "publish to" if what == "publish" else "subscribe to"
        self._denials[subject] = (
            f"the NATS server at {public(self.url)} does not permit us to {permission} {subject}: "
            "give these credentials what docs/joining.md lists"
        )
        log.error("bus.denied", connection=self.name, permission=what, subject=subject)
        self._denied.set()
        if not self.settled:
            self.client.give_up_requests()

    async def _on_lost(self) -> None:
        if self._up.is_set():
            log.warning("bus.lost", connection=self.name, url=public(self.url))
        self._up.clear()
        self.client.give_up_requests()
        self._down.set()

    async def _on_back(self) -> None:
        log.info("bus.back", connection=self.name, url=public(self.url))
        self._begin_life()

    async def _on_closed(self) -> None:
        self._up.clear()
        self._down.set()
        self.closed.set()


def _may_come(failure: Exception) -> bool:
    """Whether JetStream may yet be there."""
    known = not isinstance(failure, APIError) or failure.err_code in NO_QUORUM
    return known or _nobody_answers(failure)


def _nobody_answers(failure: Exception) -> bool:
    """There is no JetStream, or its hub is not reached yet."""
    return isinstance(failure, ServiceUnavailableError) and failure.err_code is None


def _refusal(failure: Exception, url: str) -> str:
    """Why a server never lets this connection in; empty when it may yet."""
    said = str(failure)
    if "Authorization Violation" in said:
        return f"the NATS server at {url} does not take this token or these credentials"
    if isinstance(failure, ssl.SSLCertVerificationError):
        return (
            f"the NATS server at {url} is not to be trusted ({failure.verify_message}): a cluster's own server is "
            "joined with --join and its token, which may be another one; any other server needs --tls-ca"
        )
    if isinstance(failure, ssl.SSLError):
        return (
            f"the NATS server at {url} does not speak TLS as asked ({failure.reason}): "
            "one that accepts peers does; for another one use --nats nats://..."
        )
    return ""


def _said(failure: BaseException) -> str:
    return str(failure) or type(failure).__name__
