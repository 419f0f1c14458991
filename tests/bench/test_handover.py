"""How long nobody leads: real nodes that are stopped cleanly, and real nodes that are killed."""

import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.state import State
from tests.bench.table import Table, percentile
from tests.nodes import NodeProcess, StartNode

pytestmark = pytest.mark.bench

STOPS, KILLS = 5, 7
End = Callable[[NodeProcess], Coroutine[Any, Any, object]]


async def test_hand_over(table: Table, bus: Bus, nats_server: Server, start_node: StartNode) -> None:
    names = iter(range(1000))

    async def start() -> NodeProcess:
        flags = ("--model", "none", "--no-api", "--no-worker", "--log-level", "info")
        return await start_node(f"n{next(names)}", "--nats", nats_server.url, *flags)

    nodes = [await start() for _ in range(3)]

    async def hand_overs(count: int, end: End) -> list[float]:
        took: list[float] = []
        for _ in range(count):
            leader = next(node for node in nodes if leads(bus.view.state, node))
            took.append(await hand_over_s(bus, leader, end))
            nodes.remove(leader)
            nodes.append(await start())
        return took

    for what, count, end, aim in (
        ("clean stop", STOPS, stop, "<= 0.2 s"),
        ("kill -9", KILLS, NodeProcess.kill, "<= 3.5 s"),
    ):
        took = await hand_overs(count, end)
        note = f"p50 of {count}; fastest {min(took):.3f} s; lease TTL 3 s"
        value = f"p50 {percentile(took, 0.5):.3f} s, max {max(took):.3f} s"
        table.add("Leader hand-over", f"{what}, to the next leader's first event", value, aim, note)


async def stop(node: NodeProcess) -> None:
    node.process.terminate()


def leads(state: State, node: NodeProcess) -> bool:
    return state.leader is not None and state.leader.node == node.node


async def hand_over_s(bus: Bus, leader: NodeProcess, end: End) -> float:
    """From the signal until another node's `LeaderElected` is seen by a third party."""
    began = time.perf_counter()
    await end(leader)
    await bus.view.until(lambda state: state.leader and not leads(state, leader), timeout_s=30)
    took = time.perf_counter() - began
    await leader.process.wait()
    return took
