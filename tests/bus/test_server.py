"""The embedded server and the connection to it: found, adopted, restarted, refused with a sentence."""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bus.bus import Bus
from bus.connection import Connection
from bus.errors import BusAway, PortTaken, UnusableServer
from bus.server import Server, find_server
from schemas.ids import NodeId
from tests.conftest import ConnectBus
from tests.facts import joined


async def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .* is taken.*--nats-port.*--nats nats://"):
            await Server(tmp_path, port=port).start()


async def test_a_server_of_an_earlier_life_is_adopted_with_its_data(tmp_path: Path) -> None:
    first = Server(tmp_path, port=0)
    await first.start()
    bus = await Bus.connect(first.url, "troupe", "test", NodeId("n1"))
    seq = await bus.log.record(joined("n1"))
    second = Server(tmp_path, port=0)
    await second.start()
    try:
        assert (second.pid, second.port) == (first.pid, first.port)
        assert await bus.log.bounds() == (1, seq)
    finally:
        await bus.close()
        await second.stop()
    assert not psutil.pid_exists(first.pid) or psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE


async def test_a_killed_server_returns_on_its_port_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    server = Server(tmp_path, port=0)
    await server.start()
    port, bus = server.port, await Bus.connect(server.url, "troupe", "test", NodeId("n1"))
    watch = asyncio.create_task(server.watch())
    for round_ in range(3):
        acknowledged = [await bus.log.record(joined(f"n{round_}-{i}")) for i in range(20)]
        os.kill(server.pid, signal.SIGKILL)
        more = await bus.log.record(joined(f"after-{round_}"))
        assert more == acknowledged[-1] + 1
    assert server.port == port
    watch.cancel()
    await bus.close()
    await server.stop()


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    binary = find_server()
    assert binary is not None
    process = subprocess.Popen(
        [binary, "-a", "127.0.0.1", "-p", "-1"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        port = await asyncio.to_thread(_port_of, process)
        with pytest.raises(UnusableServer, match=r"has no JetStream: start it with `-js`"):
            await Connection.open(f"nats://127.0.0.1:{port}", "test")
    finally:
        process.terminate()
        process.communicate()


def _port_of(process: "subprocess.Popen[str]") -> int:
    """The server says where it listens, and then that it is ready."""
    assert process.stderr is not None
    for line in process.stderr:
        if "Listening for client connections on" in line:
            return int(line.rsplit(":", 1)[1])
    raise AssertionError("the server never listened")


async def test_nobody_at_the_address_is_said_within_the_deadline() -> None:
    with pytest.raises(BusAway, match=r"no NATS server answers at nats://127\.0\.0\.1:1"):
        await Connection.open("nats://127.0.0.1:1", "test", deadline_s=0.5)


async def test_credentials_do_not_stand_in_errors() -> None:
    with pytest.raises(BusAway) as failure:
        await Connection.open("nats://secret@127.0.0.1:1", "test", deadline_s=0.3)
    assert "secret" not in str(failure.value)


async def test_what_needs_the_bus_says_that_it_is_away(bus: Bus, nats_server: Server) -> None:
    os.kill(nats_server.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        await bus.connection.until_down()
    with pytest.raises(BusAway, match="is away; reconnecting"):
        await bus.ask("troupe.cmd.master", joined("n1"), dict)
    with pytest.raises(BusAway):
        await bus.log.record(joined("n1"), deadline_s=0.2)


async def test_a_cancelled_request_stays_cancelled_even_when_it_meets_its_answer(
    connect_bus: ConnectBus,
) -> None:
    """`asyncio.wait_for` of Python 3.11 swallows some of these cancellations."""
    bus = await connect_bus()

    async def forever() -> None:
        while True:
            await bus.log.bounds()

    for turn in range(200):
        task = asyncio.create_task(forever())
        for _ in range(turn % 40):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([task])
        assert task.cancelled()


async def test_a_task_that_outlived_a_failed_group_can_still_ask(bus: Bus) -> None:
    """Before Python 3.13 a failed TaskGroup leaves its parent with a pending count of cancellations."""

    async def fail() -> None:
        raise ValueError("one child fails")

    with suppress(BaseException):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            await asyncio.Event().wait()
    assert await bus.log.bounds() == (0, 0)
