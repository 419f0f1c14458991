"""Leaders that die, freeze and leave: real processes, real signals, one log."""

import asyncio
import signal
import time
from contextlib import suppress

import msgspec
import pytest
from openai import AsyncOpenAI

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel
from schemas.events import Decided, LeaderElected, ModelDesired
from schemas.ids import ModelId, NodeId
from schemas.model import ModelSpec
from schemas.state import State
from tests.conftest import ConnectBus
from tests.nodes import NodeProcess, StartNode, watching
from tests.relay import relaying

LEASE_TTL_S = 3.0
QUICK_SIMULATED = ("--model", "none")


def leads(state: State, node: NodeProcess) -> bool:
    return state.leader is not None and state.leader.node == node.node


async def ready_model(bus: Bus, model: str = "guide") -> None:
    await bus.view.until(
        lambda state: any(i.status == "ready" for i in state.instances_of(ModelId(model))), timeout_s=60
    )


async def test_a_killed_leader_is_replaced_and_nothing_else_changes(
    start_node: StartNode, nats_server: Server
) -> None:
    url = ("--nats", nats_server.url)
    leader = await start_node("leader", *url, "--no-worker", "--model", "none")
    others = [await start_node("worker", *url), await start_node("third", *url, "--no-worker")]
    async with watching(others[0]) as bus:
        await bus.view.until(lambda state: leads(state, leader))
        await ready_model(bus)
        client = AsyncOpenAI(base_url=others[1].openai_url, api_key="none", max_retries=0)
        stream = await client.chat.completions.create(
            model="guide", messages=[{"role": "user", "content": "Count to 50"}], stream=True, temperature=0
        )
        first = await anext(aiter(stream))
        before = bus.view.state
        killed_at = time.monotonic()
        await leader.kill()
        state = await bus.view.until(lambda state: state.leader and not leads(state, leader))
        took_s = time.monotonic() - killed_at
        assert took_s <= 3 * LEASE_TTL_S
        assert state.instances == before.instances and state.models == before.models
        assert first.choices
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        assert text.strip().rstrip(".").endswith("50")
        state = await bus.view.until(lambda state: not state.nodes[leader.node].alive, timeout_s=20)
        assert state.instances == before.instances


async def test_a_clean_stop_hands_over_at_once(start_node: StartNode, nats_server: Server, bus: Bus) -> None:
    url = ("--nats", nats_server.url, "--model", "none", "--no-worker")
    first = await start_node("first", *url)
    await start_node("second", *url)
    events = asyncio.create_task(_second_election(bus))
    first.send(signal.SIGTERM)
    gave_up, elected = await asyncio.wait_for(events, 10)
    assert elected - gave_up < LEASE_TTL_S, "nobody waited until its lease ran out"
    assert await first.process.wait() == 0


async def _second_election(bus: Bus) -> tuple[float, float]:
    """When the first leader's lease was given up, and when its successor decided first; the bus's own clock."""
    async for recorded in bus.log.follow():
        if isinstance(recorded.event, LeaderElected) and recorded.by != (await _first_leader(bus)):
            lease = await bus.connection.jetstream.get_last_msg(
                "KV_troupe_leases", "$KV.troupe_leases.leader"
            )
            assert lease.time is not None
            return lease.time.timestamp(), recorded.time
    raise AssertionError("the log ended")


async def _first_leader(bus: Bus) -> str:
    return next(e.by for e in [e async for e in bus.log.past()] if isinstance(e.event, LeaderElected))


async def test_a_frozen_leaders_decision_is_refused_by_the_server(
    start_node: StartNode, nats_server: Server, connect_bus: ConnectBus
) -> None:
    """The leader has sent its decision, then freezes; the bytes reach the bus when another leads."""
    bus = await connect_bus("test")
    async with relaying(nats_server.port) as relay:
        frozen = await start_node("frozen", "--nats", relay.url, "--model", "none", "--no-worker", "--no-api")
        await start_node("next", "--nats", nats_server.url, "--model", "none", "--no-worker", "--no-api")
        await bus.view.until(lambda state: leads(state, frozen))
        relay.set_trap(b"troupe.evt.decided.model.stale")
        asking = asyncio.create_task(_ask_once(bus, "stale"))
        await asyncio.wait_for(relay.sprung.wait(), 10)
        frozen.send(signal.SIGSTOP)
        stopped = asyncio.create_task(asyncio.sleep(10))  # the pause: frozen for 10 s
        await bus.view.until(lambda state: state.leader and not leads(state, frozen), timeout_s=8)
        assert isinstance(
            await command(bus, LoadModel(spec=ModelSpec(id=ModelId("fresh"), source="/x"))), Done
        )
        await stopped
        frozen.send(signal.SIGCONT)
        relay.release()
        await asyncio.wait_for(relay.until_answered(b"wrong last sequence"), 10)
        await asking
        await bus.view.until(lambda state: state.nodes[frozen.node].alive, timeout_s=15)
        decisions = [e async for e in bus.log.past() if isinstance(e.event, Decided)]
    terms = [decision.term for decision in decisions]
    assert terms == sorted(terms), "an old leader's decision stands after a new leader's"
    assert len(set(terms)) == 2
    wished = {e.event.spec.id for e in decisions if isinstance(e.event, ModelDesired)}
    assert wished == {"fresh"}
    await bus.view.until(lambda state: state.seq >= decisions[-1].seq)
    assert "deposed" in frozen.journal


async def _ask_once(bus: Bus, model: str) -> None:
    """One command, never repeated, so that only the frozen leader knows of it."""
    order = LoadModel(spec=ModelSpec(id=ModelId(model), source="/x"))
    with suppress(Exception):
        await bus.connection.request(bus.subjects.master, msgspec.json.encode(order), 3.0)


@pytest.mark.parametrize("count", [2, 3])
async def test_there_is_exactly_one_leader(
    start_node: StartNode, nats_server: Server, bus: Bus, count: int
) -> None:
    nodes = [
        await start_node(f"n{i}", "--nats", nats_server.url, "--model", "none", "--no-worker", "--no-api")
        for i in range(count)
    ]
    state = await bus.view.until(lambda state: len(state.nodes) == count)
    assert state.leader is not None
    assert state.leader.node in {NodeId(node.node) for node in nodes}
    elected = [e.event async for e in bus.log.past() if isinstance(e.event, LeaderElected)]
    assert len(elected) == 1
