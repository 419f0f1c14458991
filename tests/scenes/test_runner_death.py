"""Runners that are killed or frozen, and nodes that are killed with them: the client is told, the model returns."""

import os
import signal

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.model import ModelSpec, SimulatedSpeed
from tests.nodes import NodeProcess, StartNode, watching

SIM = ModelId("sim")
SIM_SPEC = ModelSpec(
    id=SIM, source="builtin:guide", engine="simulated", simulated=SimulatedSpeed(decode=50, slots=8)
)


def client_of(node: NodeProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0, timeout=60)


async def load(bus: Bus, spec: ModelSpec = SIM_SPEC) -> Instance:
    assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
    return await ready_again(bus, attempt=1, model=spec.id)


async def ready_again(bus: Bus, attempt: int, model: ModelId = SIM) -> Instance:
    """The model's instance, once it is ready in that life or a later one."""

    def found() -> list[Instance]:
        return [i for i in bus.view.state.instances_of(model) if i.status == "ready" and i.attempt >= attempt]

    await bus.view.until(lambda _: found(), timeout_s=60)
    return found()[0]


async def begun(client: openai.AsyncOpenAI, tokens: int = 2000) -> "openai.AsyncStream[ChatCompletionChunk]":
    """A stream that has brought its first words."""
    stream = await client.chat.completions.create(
        model=SIM, messages=[{"role": "user", "content": "hello"}], max_tokens=tokens, stream=True
    )
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            return stream
    raise AssertionError("the stream brought no words")


async def answered(client: openai.AsyncOpenAI) -> bool:
    answer = await client.chat.completions.create(
        model=SIM, messages=[{"role": "user", "content": "hello"}], max_tokens=5
    )
    return bool(answer.choices[0].message.content)


async def test_a_killed_runner_ends_its_streams_with_an_error_event_and_returns(
    start_node: StartNode,
) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        streams = [await begun(client) for _ in range(3)]
        (before,) = node.runner_pids()
        os.kill(before, signal.SIGKILL)
        for stream in streams:
            with pytest.raises(openai.APIError, match=r"killed by SIGKILL.*Send the request again") as told:
                async for _ in stream:
                    pass
            assert told.value.code == "runner_lost"
        again = await ready_again(bus, instance.attempt + 1)
        assert (again.id, again.attempt) == (instance.id, 2)
        assert await answered(client)
        (after,) = node.runner_pids()
        assert after != before
    assert "actor.failed" not in node.journal


@pytest.mark.slow
async def test_a_frozen_runner_is_noticed_killed_and_replaced(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        stream = await begun(client)
        (pid,) = node.runner_pids()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(openai.APIError, match="the runner was silent for") as told:
            async for _ in stream:
                pass
        assert told.value.code == "runner_lost"
        assert (await ready_again(bus, instance.attempt + 1)).id == instance.id
        assert await answered(client)
        assert node.runner_pids() != [pid]


async def test_what_a_killed_node_carried_is_placed_on_another(
    start_node: StartNode, nats_server: Server
) -> None:
    url = ("--nats", nats_server.url, "--model", "none")
    first, api = await start_node("first", *url, "--no-api"), await start_node("api", *url, "--no-worker")
    async with watching(api) as bus, client_of(api) as client:
        instance = await load(bus)
        assert instance.nodes == {first.node}
        stream = await begun(client)
        second = await start_node("second", *url, "--no-api")
        runners = first.runner_pids()
        await first.kill()
        with pytest.raises(openai.APIError) as told:
            async for _ in stream:
                pass
        assert told.value.code == "runner_lost"
        again = await ready_again(bus, instance.attempt + 1)
        assert (again.id, again.nodes) == (instance.id, {second.node})
        assert await answered(client)
    assert not any(is_running(pid) for pid in runners)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
