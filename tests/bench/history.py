"""Long logs of few entities, and how long joining takes behind a leader that keeps the snapshot."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bus.bucket import Bucket
from bus.bus import Bus
from bus.server import Server
from bus.view import HEAD, restore
from schemas.events import DownloadReported
from schemas.ids import ModelId, NodeId
from tests.nodes import StartNode

UNDER_WAY = 500
ENTITIES = 20


def fact(number: int) -> DownloadReported:
    """The log grows by each, the state only by the first twenty."""
    return DownloadReported(
        node=NodeId("n1"),
        model=ModelId(f"m{number % ENTITIES}"),
        source="/x",
        status="downloading",
        bytes_done=number,
    )


async def append(bus: Bus, count: int) -> None:
    """That many facts, 500 at a time under way."""
    for begin in range(0, count, UNDER_WAY):
        numbers = range(begin, min(begin + UNDER_WAY, count))
        await asyncio.gather(*(bus.log.record(fact(number)) for number in numbers))


async def join_times(
    start_node: StartNode, folder: Path, sizes: Sequence[int], joins: int
) -> dict[int, list[float]]:
    """Seconds in which Views are ready of clusters that have had so many events; they take turns."""
    async with AsyncExitStack() as stack:
        urls = {size: await stack.enter_async_context(_cluster(start_node, folder, size)) for size in sizes}
        for url in urls.values():
            await _join_s(url)  # warm
        took: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(joins):
            for size, url in urls.items():
                took[size].append(await _join_s(url))
        return took


@asynccontextmanager
async def _cluster(start_node: StartNode, folder: Path, events: int) -> AsyncGenerator[str]:
    """The address of a bus with so many events, whose leader is a node of its own and has written the snapshot."""
    server = Server(folder / f"nats-{events}", port=0)
    await server.start()
    flags = ("--model", "none", "--no-api", "--no-worker", "--log-level", "info")
    leader = await start_node(f"leader-{events}", "--nats", server.url, *flags)
    bus = await Bus.connect(server.url, "troupe", "bench", NodeId("bench"))
    try:
        await append(bus, events)
        await _snapshot_covers(bus, (await bus.log.bounds())[1])
        yield server.url
    finally:
        await bus.close()
        await leader.stop()
        await server.stop()


async def _snapshot_covers(bus: Bus, seq: int) -> None:
    """Until the leader has written the state of event `seq`."""
    bucket = Bucket(bus.connection, "troupe_state")
    async with asyncio.timeout(60):
        async for entry in bucket.watch():
            if not isinstance(entry, str) and entry.key == HEAD and restore([entry]).seq >= seq:
                return


async def _join_s(url: str) -> float:
    bus = await Bus.connect(url, "troupe", "joining", NodeId("joining"))
    began = time.perf_counter()
    await bus.view.start()
    took = time.perf_counter() - began
    assert len(bus.view.state.downloads) == ENTITIES
    await bus.close()
    return took
