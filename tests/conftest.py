"""Fixtures on the real parts: a nats-server on a random port with a temporary store, and a bus on it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from bus.bus import Bus
from bus.server import Server
from schemas.ids import NodeId

settings.register_profile("troupe", deadline=None)  # a slow machine is no failure
settings.load_profile("troupe")

ConnectBus = Callable[..., Awaitable[Bus]]


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[Server]:
    """A real nats-server with JetStream; `nats_server.url`, `nats_server.pid`."""
    server = Server(tmp_path / "nats", port=0)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connect_bus(nats_server: Server) -> AsyncIterator[ConnectBus]:
    """Makes further connections to the same bus: `await connect_bus(node="n2")`; all are closed at the end."""
    async with AsyncExitStack() as stack:

        async def connect(node: str = "n1", cluster: str = "troupe", lease_ttl_s: float = 3.0) -> Bus:
            bus = await Bus.connect(
                nats_server.url, cluster, f"test-{node}", NodeId(node), lease_ttl_s=lease_ttl_s
            )
            stack.push_async_callback(bus.close)
            await bus.view.start()
            return bus

        yield connect


@pytest.fixture
async def bus(connect_bus: ConnectBus) -> Bus:
    """A connected bus with all streams made and its view of the state started."""
    return await connect_bus()
