"""`actors down` against processes that hold a data folder as a node does."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from actors.machine.data_folder import holder
from actors.machine.node_info import NodeInfo
from bus.bus import Bus
from bus.lease import Holder, Lease, node_lease
from bus.server import Server
from schemas.commands import Done, NodeCommand
from schemas.events import NodeLeft
from schemas.ids import NodeId
from tests.cli.command import HERE, actors, environment
from tests.conftest import ConnectBus
from tests.facts import joined

NODE = """
import signal, sys
from pathlib import Path
from actors.machine.data_folder import DataFolder
folder = DataFolder.open(Path(sys.argv[1]))
(folder.path / "node.json").write_text(sys.argv[2])
stop = {signal.SIGTERM, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, stop)
print("held", flush=True)
number = signal.sigwait(stop)
folder.close()
sys.exit(number)
"""


@asynccontextmanager
async def node(data_dir: Path, nats_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Holds the folder until SIGTERM, or until SIGUSR1 with which the test stops it as the bus would."""
    info = msgspec.json.encode(NodeInfo(node_id=NodeId("n1"), pid=1, nats_url=nats_url)).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", NODE, str(data_dir), info),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=HERE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_node_whose_bus_is_away_is_stopped_by_a_signal(tmp_path: Path) -> None:
    async with node(tmp_path, "nats://127.0.0.1:9") as process:
        ran = await actors("down", "--data-dir", str(tmp_path), "--json")
        assert (ran.code, ran.json) == (0, {"stopped": [f"the node of {tmp_path}"]})
        assert holder(tmp_path) is None
        assert await process.wait() == signal.SIGTERM


async def test_a_node_is_asked_over_the_bus_and_waited_for(
    bus: Bus, nats_server: Server, tmp_path: Path
) -> None:
    async with node(tmp_path, nats_server.url) as process:

        async def stop(_: NodeCommand) -> Done:
            process.send_signal(signal.SIGUSR1)
            return Done()

        async with bus.serving(bus.subjects.node(NodeId("n1")), NodeCommand, stop):
            ran = await actors("down", "--data-dir", str(tmp_path))
        assert (ran.code, ran.out) == (0, f"Stopped the node of {tmp_path}.\n")
        assert await process.wait() == signal.SIGUSR1


async def test_nothing_to_stop_is_fine(tmp_path: Path) -> None:
    ran = await actors("down", "--data-dir", str(tmp_path / "never"))
    assert (ran.code, ran.out) == (0, "No node was running.\n")
    ran = await actors("down", "--all", "--data-dir", str(tmp_path / "never"))
    assert (ran.code, ran.out) == (0, "No node was running.\n")


async def test_a_bus_alone_names_no_node(nats_server: Server) -> None:
    ran = await actors("down", "--nats", nats_server.url)
    assert (ran.code, "--all for every node" in ran.err) == (1, True)


async def test_all_nodes_are_stopped_and_waited_for(bus: Bus, nats_server: Server) -> None:
    for name in ("n1", "n2", "n3"):
        await bus.log.record(joined(name))
    held = [
        await bus.leases.acquire(node_lease(NodeId(name)), Holder(node=NodeId(name), incarnation="one"))
        for name in ("n1", "n2")
    ]
    await bus.log.record(NodeLeft(node=NodeId("n3"), incarnation="one"))

    def stopping(name: str, lease: Lease):
        async def stop(_: NodeCommand) -> Done:
            await lease.release()
            return Done()

        return bus.serving(bus.subjects.node(NodeId(name)), NodeCommand, stop)

    async with stopping("n1", held[0]), stopping("n2", held[1]):
        ran = await actors("down", "--all", "--json", "--nats", nats_server.url)
    assert (ran.code, ran.json) == (0, {"stopped": ["n1", "n2"]})


async def test_a_killed_nodes_server_is_stopped_unless_others_use_it(
    connect_bus: ConnectBus, nats_server: Server, tmp_path: Path
) -> None:
    bus = await connect_bus()
    lease = await bus.leases.acquire(node_lease(NodeId("n2")), Holder(node=NodeId("n2"), incarnation="one"))
    ran = await actors("down", "--data-dir", str(tmp_path))
    assert (ran.code, "1 other node(s) use it" in ran.err) == (1, True)
    await lease.release()
    ended = asyncio.create_task(
        asyncio.to_thread(psutil.Process(nats_server.pid).wait)
    )  # it is our child here
    ran = await actors("down", "--data-dir", str(tmp_path))
    assert (ran.code, "which a killed node had left" in ran.out) == (0, True)
    await asyncio.wait_for(ended, 10)
