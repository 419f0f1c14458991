"""A connection beside a server that is slow."""

import psutil

from bus.bus import Bus
from bus.server import Server
from tests.until import until


async def test_a_late_answer_does_not_make_it_deaf(bus: Bus, nats_server: Server) -> None:
    """nats-py reads no more when a pong comes that nobody waits for any more."""
    assert nats_server.pid is not None
    server = psutil.Process(nats_server.pid)
    server.suspend()
    await until(lambda: server.status() == psutil.STATUS_STOPPED)
    assert not await bus.connection.answers(0.2)
    server.resume()
    await bus.connection.jetstream.account_info()
