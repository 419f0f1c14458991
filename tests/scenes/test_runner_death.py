"""Runners that are killed or frozen, and nodes that are killed with them: the model returns, and no stream breaks."""

import asyncio
import os
import signal

import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.chunks import Frame, Started
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.model import ModelSpec, SimulatedSpeed
from tests.nodes import NodeProcess, StartNode, watching
from tests.until import until

TOKENS = 200
SIM = ModelId("sim")
SIM_SPEC = ModelSpec(
    id=SIM, source="builtin:guide", engine="simulated", simulated=SimulatedSpeed(decode=100, slots=8)
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


async def begun(
    client: openai.AsyncOpenAI, tokens: int = TOKENS
) -> "tuple[openai.AsyncStream[ChatCompletionChunk], str]":
    """A stream that has brought its first words, and these."""
    stream = await client.chat.completions.create(
        model=SIM, messages=[{"role": "user", "content": "hello"}], max_tokens=tokens, stream=True, seed=1
    )
    async for chunk in stream:
        if chunk.choices and (words := chunk.choices[0].delta.content):
            return stream, words
    raise AssertionError("the stream brought no words")


async def answered(client: openai.AsyncOpenAI) -> bool:
    answer = await client.chat.completions.create(
        model=SIM, messages=[{"role": "user", "content": "hello"}], max_tokens=5
    )
    return bool(answer.choices[0].message.content)


async def rest(stream: "openai.AsyncStream[ChatCompletionChunk]") -> str:
    """What else it says."""
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def whole(client: openai.AsyncOpenAI, tokens: int) -> str:
    """What a stream says that nothing disturbs."""
    stream, words = await begun(client, tokens)
    return words + await rest(stream)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_runner_that_ends_breaks_no_stream(start_node: StartNode, number: signal.Signals) -> None:
    """Nobody else has the model: its next life goes on with them."""
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        undisturbed = await whole(client, TOKENS)
        streams = [await begun(client) for _ in range(3)]
        (before,) = node.runner_pids()
        os.kill(before, number)
        for stream, words in streams:
            assert words + await rest(stream) == undisturbed
        again = await ready_again(bus, instance.attempt + 1)
        assert (again.id, again.attempt) == (instance.id, 2)
        (after,) = node.runner_pids()
        assert after != before
    assert "actor.failed" not in node.journal


async def test_the_next_life_is_that_of_the_spare_and_a_killed_node_leaves_none(
    start_node: StartNode,
) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        (runner,), spare = node.runner_pids(), await waiting_spare(node)
        stream, words = await begun(client)
        os.kill(runner, signal.SIGKILL)
        await ready_again(bus, instance.attempt + 1)
        assert node.runner_pids() == [spare]
        assert words + await rest(stream) == await whole(client, TOKENS)
        left = [*node.runner_pids(), await waiting_spare(node)]
        await node.kill()
    await until(lambda: not any(is_running(pid) for pid in left))


async def waiting_spare(node: NodeProcess) -> int:
    await until(lambda: node.has_spare)
    (pid,) = node.spare_pids()
    return pid


@pytest.mark.slow
async def test_a_frozen_runner_is_noticed_killed_and_replaced(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        undisturbed = await whole(client, TOKENS)
        stream, words = await begun(client)
        (pid,) = node.runner_pids()
        os.kill(pid, signal.SIGSTOP)
        assert words + await rest(stream) == undisturbed
        assert (await ready_again(bus, instance.attempt + 1)).id == instance.id
        assert node.runner_pids() != [pid]
    assert "the runner was silent for" in node.journal


async def test_what_a_killed_node_carried_goes_on_on_another(
    start_node: StartNode, nats_server: Server
) -> None:
    url = ("--nats", nats_server.url, "--model", "none")
    first, api = await start_node("first", *url, "--no-api"), await start_node("api", *url, "--no-worker")
    async with watching(api) as bus, client_of(api) as client:
        instance = await load(bus)
        assert instance.nodes == {first.node}
        undisturbed = await whole(client, TOKENS)
        second = await start_node("second", *url, "--no-api")
        stream, words = await begun(client)
        runners = first.runner_pids()
        await first.kill()
        assert words + await rest(stream) == undisturbed
        again = await ready_again(bus, instance.attempt + 1)
        assert (again.id, again.nodes) == (instance.id, {second.node})
    assert not any(is_running(pid) for pid in runners)


async def test_a_request_that_crashes_its_runner_twice_is_poison(start_node: StartNode) -> None:
    """Whatever it is that crashes: here the test, each time that the prompt has begun to be read."""
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        await load(bus, msgspec.structs.replace(SIM_SPEC, simulated=SimulatedSpeed(prefill=1)))
        begun: asyncio.Queue[int] = asyncio.Queue()
        heard: set[int] = set()

        def hear(payload: bytes, _subject: str) -> None:
            """A life that pulls its task says so, and its engine says it once more."""
            for chunk in msgspec.msgpack.decode(payload, type=Frame):
                if isinstance(chunk, Started) and chunk.instance_attempt not in heard:
                    heard.add(chunk.instance_attempt)
                    begun.put_nowait(chunk.instance_attempt)

        async with bus.listening(bus.subjects.chunks, hear):
            asking = asyncio.create_task(poisoned(client))
            for life in (1, 2):
                assert await begun.get() == life
                (pid,) = node.runner_pids()
                os.kill(pid, signal.SIGSEGV)
            assert "is not tried again" in await asking
        await ready_again(bus, 3)
        assert begun.empty()


async def poisoned(client: openai.AsyncOpenAI) -> str:
    with pytest.raises(openai.InternalServerError) as told:
        await answered(client)
    assert told.value.code == "poison"
    return str(told.value)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
