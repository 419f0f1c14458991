"""Three servers as one bus: what was acknowledged stays, whichever of them is killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from bus.bus import Bus
from bus.errors import UnusableServer
from bus.server import Server
from bus.server_file import Peers, Routes
from bus.streams import StreamLimits
from schemas.ids import NodeId
from tests.bus.three import TOKEN, three_servers
from tests.facts import joined


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Three, watched as their nodes watch them."""
    made = three_servers(tmp_path)
    await asyncio.gather(*(server.start() for server in made))
    watches = [asyncio.create_task(server.watch()) for server in made]
    yield made
    for watch in watches:
        watch.cancel()
    await asyncio.gather(*(server.stop() for server in made))


async def connect(server: Server) -> Bus:
    return await Bus.connect(
        server.url, "troupe", "test", NodeId("n1"), limits=StreamLimits(replicas=3), deadline_s=60
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_each_is_killed_in_turn_and_nothing_acknowledged_is_lost(servers: list[Server]) -> None:
    bus = await connect(servers[0])
    acknowledged: dict[int, str] = {}
    gaps: list[float] = []
    over, another = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        number, last = 0, monotonic()
        while not over.is_set():
            name = f"n{number}"
            acknowledged[await bus.log.record(joined(name))] = name
            gaps.append(monotonic() - last)
            number, last = number + 1, monotonic()
            another.set()

    writing = asyncio.create_task(write())
    writing.add_done_callback(lambda _: another.set())
    for server in servers:
        before, pid = len(acknowledged), server.pid
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while server.pid == pid or len(acknowledged) < before + 200:
                another.clear()
                if writing.done():
                    await writing
                await another.wait()
    over.set()
    await writing
    stored = {recorded.seq: recorded.event async for recorded in bus.log.past()}
    print(f"{len(acknowledged)} acknowledged, longest pauses {[f'{gap:.2f}' for gap in sorted(gaps)[-5:]]} s")
    assert {seq: getattr(stored[seq], "node", None) for seq in acknowledged} == acknowledged
    await bus.close()


async def test_a_store_of_another_shape_is_refused(tmp_path: Path) -> None:
    alone = Server(tmp_path, port=0)
    await alone.start()
    bus = await Bus.connect(alone.url, "troupe", "test", NodeId("n1"))
    await bus.close()
    await alone.stop()
    routes = Routes(name="s", cluster="troupe", port=1, servers=("127.0.0.1:1",))
    peers = Peers(token=TOKEN, addresses=("127.0.0.1",), routes=routes)
    with pytest.raises(UnusableServer, match=r"was alone.*--carry-over takes them along"):
        await Server(tmp_path, port=0, peers=peers).start()
