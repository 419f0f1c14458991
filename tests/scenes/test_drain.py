"""A node is drained while it serves: its model is loaded elsewhere first, and the stream goes on."""

import asyncio

import openai
import pytest

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.model import ModelSpec, SimulatedSpeed
from tests.cli.command import actors
from tests.nodes import StartNode, watching

TOKENS = 900
SPEC = ModelSpec(
    id=ModelId("guide"), source="builtin:guide", engine="simulated", simulated=SimulatedSpeed(decode=50)
)
"""18 seconds of an answer: longer than it takes to load the model elsewhere."""


async def ready(bus: Bus) -> Instance:
    state = await bus.view.until(
        lambda state: [one for one in state.instances_of(SPEC.id) if one.status == "ready"], timeout_s=60
    )
    return state.instances_of(SPEC.id)[0]


async def read(client: openai.AsyncOpenAI, begun: asyncio.Event) -> tuple[str | None, int]:
    """How the answer ended, and how many tokens it had."""
    stream = await client.chat.completions.create(
        model=SPEC.id,
        messages=[{"role": "user", "content": "count"}],
        max_tokens=TOKENS,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    finish, tokens = None, 0
    async for chunk in stream:
        begun.set()
        finish = next((choice.finish_reason for choice in chunk.choices if choice.finish_reason), finish)
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return finish, tokens


@pytest.mark.slow
async def test_what_a_drained_node_serves_goes_on_elsewhere(start_node: StartNode) -> None:
    first = await start_node("a", "--model", "none")
    second = await start_node("b", "--model", "none", "--no-api", "--nats", first.info.nats_url)
    client = openai.AsyncOpenAI(base_url=first.openai_url, api_key="none", max_retries=0)
    async with watching(first) as bus, client:
        assert isinstance(await command(bus, LoadModel(spec=SPEC)), Done)
        old, begun = await ready(bus), asyncio.Event()
        reading = asyncio.create_task(read(client, begun))
        await begun.wait()
        [node] = old.nodes
        drained = await actors("drain", node, "--data-dir", str(first.folder))
        assert (drained.code, drained.err) == (0, "")
        assert not reading.done(), "the answer was to be cut by the drain"
        assert await reading == ("length", TOKENS)
        assert (await ready(bus)).nodes == {first.node, second.node} - old.nodes
