"""Models that are loaded on demand: by the first request, unloaded when idle, never while they serve."""

import asyncio
import signal
from pathlib import Path

import openai
import pytest

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.events import InstancePlaced, InstanceRetired, ModelDemanded, ModelIdled
from schemas.ids import ModelId
from schemas.model import ModelSpec, SimulatedSpeed
from schemas.state import State
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide", on_demand=True, idle_timeout_s=5)
SLOTS = 4096
CACHE_BYTES = 2 * 2 * 2 * 16 * 4
"""Keys and values of one token of a tiny model: two layers, two heads each of 16 float32 numbers."""


def client_of(node: NodeProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0, timeout=120)


async def ask(node: NodeProcess, tokens: int = 4) -> int:
    """How many tokens the answer had."""
    async with client_of(node) as client:
        answer = await client.chat.completions.create(
            model=GUIDE.id,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=tokens,
            extra_body={"ignore_eos": True},
        )
    assert answer.usage
    return answer.usage.completion_tokens


def copies(state: State) -> int:
    return len(state.instances_of(GUIDE.id))


async def told(bus: Bus, kind: type) -> int:
    """How often it is in the log."""
    return len([each async for each in bus.log.past() if isinstance(each.event, kind)])


@pytest.mark.slow
async def test_the_first_request_loads_it_and_nobody_unloads_it_while_it_serves(
    start_node: StartNode,
) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        assert isinstance(await command(bus, LoadModel(spec=GUIDE)), Done)
        assert [each.id async for each in client.models.list()] == [GUIDE.id]
        assert not copies(bus.view.state)
        assert await ask(node) == 4
        assert await ask(node) == 4
        assert await told(bus, InstancePlaced) == 1, "the second one found it warm"
        await bus.view.until(lambda state: not copies(state), timeout_s=60)
        assert await told(bus, ModelIdled) == 1
        assert await ask(node) == 4
        assert (await told(bus, InstancePlaced), await told(bus, ModelDemanded)) == (2, 2)


@pytest.mark.slow
async def test_a_stream_longer_than_the_idle_time_out_is_not_cut(start_node: StartNode) -> None:
    """12 seconds of an answer; after it the model goes, and who asks at that very time is served too."""
    node = await start_node("a", "--model", "none")
    spec = ModelSpec(
        id=GUIDE.id,
        source=GUIDE.source,
        engine="simulated",
        simulated=SimulatedSpeed(decode=25),
        on_demand=True,
        idle_timeout_s=5,
    )
    async with watching(node) as bus:
        assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        assert await ask(node, 300) == 300
        assert await told(bus, InstanceRetired) == 0
        await bus.view.until(
            lambda state: any(one.retired for one in state.instances_of(GUIDE.id)), timeout_s=60
        )
        assert await ask(node) == 4, "it came when the model was about to leave"


@pytest.mark.slow
async def test_whoever_waits_is_served_though_the_leader_dies(start_node: StartNode) -> None:
    leader = await start_node("a", "--model", "none", "--no-api", "--no-worker")
    door = await start_node("b", "--model", "none", "--nats", leader.info.nats_url)
    spec = ModelSpec(
        id=GUIDE.id,
        source=GUIDE.source,
        engine="simulated",
        simulated=SimulatedSpeed(load_s=5),
        on_demand=True,
    )
    async with watching(door) as bus:
        assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        assert bus.view.state.leader and bus.view.state.leader.node == leader.node
        leader.send(signal.SIGSTOP)
        asking = asyncio.create_task(ask(door))
        await leader.kill()
        assert await asking == 4
        assert await told(bus, ModelDemanded) == 1


@pytest.mark.slow
async def test_where_memory_is_short_the_idle_one_makes_room(start_node: StartNode, tmp_path: Path) -> None:
    """Each of two models takes three fifths of the room."""
    node = await start_node("n", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        [profile] = [each.profile for each in bus.view.state.nodes.values()]
        context = int(profile.memory_bytes * 0.8 * 0.6 / SLOTS / CACHE_BYTES)
        for name in ("one", "two"):
            folder = make_random_llama(tmp_path / name, context=context)
            spec = ModelSpec(
                id=ModelId(name), source=str(folder), on_demand=True, slots=SLOTS, context=context
            )
            assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        for name in ("one", "two", "one"):
            answer = await client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "hello"}], max_tokens=4
            )
            assert answer.usage
        idled = [each.event async for each in bus.log.past() if isinstance(each.event, ModelIdled)]
        assert [each.why for each in idled if "makes room" in each.why] == [
            "it was idle, and makes room for two",
            "it was idle, and makes room for one",
        ]
