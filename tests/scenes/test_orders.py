"""Commands in floods, and commands that contradict each other."""

import asyncio
import random

import msgspec
import pytest

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel, UnloadModel
from schemas.ids import ModelId
from schemas.refused import Refused
from tests.chaos.soak import until_the_bucket_is_the_log
from tests.conftest import ConnectBus
from tests.nodes import StartNode, watching
from tests.scenes.test_runner_death import SIM, SIM_SPEC, answered, client_of, ready_again


async def test_a_flood_of_commands_drowns_nobody(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none", "--no-worker", "--no-api")
    async with watching(node) as bus:
        asked = [
            command(bus, UnloadModel(model=ModelId(f"none-{i}")), 60)
            if i % 2
            else command(bus, LoadModel(spec=msgspec.structs.replace(SIM_SPEC, id=ModelId(f"m{i % 20}"))), 60)
            for i in range(2000)
        ]
        answers = await asyncio.gather(*asked)
        assert {type(answer) for answer in answers} == {Done, Refused}
        assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"not_found"}
        assert len(bus.view.state.models) == 10
        assert bus.view.state.leader is not None and bus.view.state.leader.node == node.node
    assert "actor.failed" not in node.journal and "deposed" not in node.journal


@pytest.mark.slow
async def test_loads_and_unloads_of_one_model_from_two_sides(
    start_node: StartNode, nats_server: Server, connect_bus: ConnectBus
) -> None:
    nodes = [await start_node(name, "--nats", nats_server.url, "--model", "none") for name in ("a", "b")]
    sides = [await connect_bus(f"side-{i}") for i in range(2)]
    await asyncio.gather(*(_to_and_fro(bus, seed) for seed, bus in enumerate(sides)))
    assert isinstance(await command(sides[0], LoadModel(spec=SIM_SPEC)), Done)
    await ready_again(sides[0], attempt=1)
    assert len(sides[0].view.state.instances_of(SIM)) == 1
    for node in nodes:
        assert await answered(client_of(node))
    async with asyncio.timeout(10):
        await until_the_bucket_is_the_log(sides[1])
    for node in nodes:
        assert "actor.failed" not in node.journal


async def _to_and_fro(bus: Bus, seed: int) -> None:
    choose = random.Random(seed)
    for _ in range(20):
        spec = msgspec.structs.replace(SIM_SPEC, replicas=choose.randint(0, 2))
        order = choose.choice([LoadModel(spec=spec), UnloadModel(model=SIM)])
        answer = await command(bus, order)
        assert isinstance(answer, Done) or answer.code == "not_found"
