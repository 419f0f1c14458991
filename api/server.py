"""The API actor: uvicorn in the loop of its node, on a port that was bound beforehand."""

import asyncio
import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager

import structlog
import uvicorn

from api.app import create_app
from api.context import Context
from api.settings import ApiSettings
from bus.bus import Bus
from bus.tracing import Tracing
from schemas.ids import NodeId

log = structlog.get_logger()

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""An idle connection is kept this long: longer than clients and proxies keep theirs."""


class AddressUnusable(Exception):
    """The API cannot listen where it was told to."""


class PortTaken(AddressUnusable):
    """Another program listens there."""


class Api:
    """Serves HTTP for one node; `bind` first, so that `url` is known before anything is served."""

    def __init__(self, bus: Bus, node: NodeId, settings: ApiSettings, tracing: Tracing | None = None) -> None:
        self._bus = bus
        self._tracing = tracing
        self._settings = settings
        self._log = log.bind(node=node)
        self._socket: socket.socket | None = None
        self.host = settings.host
        self.port = settings.port
        self.serving = asyncio.Event()
        """Requests are answered."""

    @property
    def url(self) -> str:
        """Where clients of this machine reach it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{self.port}"

    def bind(self) -> str:
        """Take the port, and return the address; raises `PortTaken` or `AddressUnusable`."""
        if self._socket is None:
            self._socket = listen(self.host, self.port)
            self.port = self._socket.getsockname()[1]
        return self.url

    async def run(self) -> None:
        """Serve until cancelled; running answers get `stop_grace_s` seconds to end."""
        self.bind()
        assert self._socket is not None, "bind makes it"
        context = Context(self._bus, self._settings, self._tracing)
        server = _Server(_configuration(context), self.serving)
        try:
            await self._bus.view.start()
            await context.tellings.start()
            async with context.signs.listening(), asyncio.TaskGroup() as group:
                owner = group.create_task(context.requests.run(), name="api.requests")
                await self._serve(server, self._socket)
                owner.cancel()
        finally:
            self.serving.clear()
            self.close()
            context.close()

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _serve(self, server: "_Server", listening: socket.socket) -> None:
        """uvicorn is asked to stop, not cancelled: it then ends answers and closes connections itself."""
        self._log.info("api.started", url=self.url)
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="api.http")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise
        finally:
            self._log.info("api.stopped", url=self.url)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; it listens at once, so that nobody else can take the port meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as failure:
        raise _unusable(host, port, failure) from failure
    listening.setblocking(False)
    return listening


def _unusable(host: str, port: int, failure: Exception) -> AddressUnusable:
    number = failure.errno if isinstance(failure, OSError) else None
    if number == errno.EADDRINUSE:
        return PortTaken(
            f"port {port} on {host} is taken by another program: stop it, or choose another port with "
            "--api-port (0 means any free one)"
        )
    if number == errno.EACCES:
        return AddressUnusable(
            f"port {port} on {host} needs rights that this process does not have: choose one above 1023 with --api-port"
        )
    return AddressUnusable(
        f"the API cannot listen on {host}:{port} ({failure}): choose another address with --api-host"
    )


def _configuration(context: Context) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(context),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(context.settings.stop_grace_s)),
    )


class _Server(uvicorn.Server):
    """Leaves signals to the node."""

    def __init__(self, config: uvicorn.Config, serving: asyncio.Event) -> None:
        super().__init__(config)
        self._serving = serving

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._serving.set()
