"""A model is changed while it serves: nobody is refused, and each answer is of one version from its first word on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest
from msgspec.structs import replace

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.events import InstancePlaced, InstanceRetired
from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.state import State
from schemas.version import same_form
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

MODEL = ModelId("m")
TOKENS = 60
LONG = 1500
SLOTS = 4096
CACHE_BYTES = 2 * 2 * 2 * 16 * 4
"""Keys and values of one token: two layers, two heads each of 16 float32 numbers."""
ASKING = 3


def spec_of(folder: Path) -> ModelSpec:
    return ModelSpec(id=MODEL, source=str(folder))


def client_of(node: NodeProcess) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0, timeout=180)


async def answer(client: openai.AsyncOpenAI, tokens: int = TOKENS, begun: asyncio.Event | None = None) -> str:
    """What the likeliest tokens say."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hello there"}],
        max_tokens=tokens,
        temperature=0,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    text = ""
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        if text and begun is not None:
            begun.set()
    return text


def rolled(state: State, spec: ModelSpec) -> bool:
    """All that is there is as it is wished for, and ready."""
    there = state.instances_of(MODEL)
    return bool(there) and all(one.status == "ready" and same_form(one.spec, spec) for one in there)


@asynccontextmanager
async def crowd(client: openai.AsyncOpenAI) -> AsyncIterator[list[str]]:
    """Asks without a pause; what was answered, at last to the end. A refusal is raised."""
    answers: list[str] = []
    enough = asyncio.Event()

    async def asks() -> None:
        while not enough.is_set():
            answers.append(await answer(client))

    async with asyncio.TaskGroup() as group:
        for _ in range(ASKING):
            group.create_task(asks())
        yield answers
        enough.set()


async def load(bus: Bus, spec: ModelSpec) -> None:
    assert isinstance(await command(bus, LoadModel(spec=spec), deadline_s=30), Done)


async def until_rolled(bus: Bus, spec: ModelSpec) -> None:
    await bus.view.until(lambda state: rolled(state, spec), timeout_s=120)


async def reference(bus: Bus, client: openai.AsyncOpenAI, spec: ModelSpec) -> str:
    await load(bus, spec)
    await until_rolled(bus, spec)
    return await answer(client)


@pytest.mark.slow
async def test_a_new_version_takes_over_and_no_request_is_refused(
    start_node: StartNode, tmp_path: Path
) -> None:
    older, newer = (spec_of(make_random_llama(tmp_path / name, seed=at)) for at, name in enumerate("ab"))
    node = await start_node("n", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        said = await reference(bus, client, older)
        begun = asyncio.Event()
        long = asyncio.create_task(answer(client, LONG, begun))
        await begun.wait()
        async with crowd(client) as answers:
            await load(bus, newer)
            await bus.view.until(
                lambda state: any(one.retired for one in state.instances_of(MODEL)), timeout_s=120
            )
            assert (await long).startswith(said), "what was begun by the older one ends there"
            await until_rolled(bus, newer)
        says = await answer(client)
        assert says != said
        assert set(answers) <= {said, says}
        assert said in answers
        events = [each.event async for each in bus.log.past()]
        assert len([each for each in events if isinstance(each, InstancePlaced)]) == 2
        assert [each.why for each in events if isinstance(each, InstanceRetired)] == [
            "the model was changed, and what is wanted now is ready"
        ]


@pytest.mark.slow
async def test_what_cannot_be_loaded_leaves_the_older_version_serving(
    start_node: StartNode, tmp_path: Path
) -> None:
    older, newer = (spec_of(make_random_llama(tmp_path / name, seed=at)) for at, name in enumerate("ab"))
    (tmp_path / "b" / "model.safetensors").write_bytes(b"broken")
    node = await start_node("n", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        said = await reference(bus, client, older)
        await load(bus, newer)
        await bus.view.until(
            lambda state: any(one.status == "failed" for one in state.instances_of(MODEL)), timeout_s=60
        )
        assert await answer(client) == said
        whole = await answer(client, LONG)
        begun = asyncio.Event()
        long = asyncio.create_task(answer(client, LONG, begun))
        await begun.wait()
        [runner] = node.runner_pids()
        os.kill(runner, signal.SIGKILL)
        assert await long == whole, "the next life of the same version goes on"
        await load(bus, older)
        await until_rolled(bus, older)
        assert await answer(client) == said
        assert not [each async for each in bus.log.past() if isinstance(each.event, InstanceRetired)]


@pytest.mark.slow
async def test_where_both_do_not_fit_requests_wait_and_none_is_refused(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = await start_node("n", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        context = three_fifths_of(bus.view.state)
        older, newer = (
            replace(
                spec_of(make_random_llama(tmp_path / name, seed=at, context=context)),
                slots=SLOTS,
                context=context,
            )
            for at, name in enumerate("ab")
        )
        said = await reference(bus, client, older)
        async with crowd(client) as answers:
            await load(bus, newer)
            await until_rolled(bus, newer)
        says = await answer(client)
        assert set(answers) <= {said, says} and says != said
        retired = [each.event async for each in bus.log.past() if isinstance(each.event, InstanceRetired)]
        assert ["both do not fit" in each.why for each in retired] == [True]


def three_fifths_of(state: State) -> int:
    """A context with which a tiny model takes three fifths of what models may fill on the node."""
    [node] = state.nodes.values()
    return int(node.profile.memory_bytes * 0.8 * 0.6 / SLOTS / CACHE_BYTES)


@pytest.mark.slow
async def test_a_change_goes_on_though_the_leader_dies(start_node: StartNode, tmp_path: Path) -> None:
    older, newer = (spec_of(make_random_llama(tmp_path / name, seed=at)) for at, name in enumerate("ab"))
    leader = await start_node("a", "--model", "none", "--no-api", "--no-worker")
    node = await start_node("b", "--model", "none", "--nats", leader.info.nats_url)
    async with watching(node) as bus, client_of(node) as client:
        said = await reference(bus, client, older)
        async with crowd(client) as answers:
            await load(bus, newer)
            await leader.kill()
            await until_rolled(bus, newer)
        says = await answer(client)
        assert set(answers) <= {said, says} and says != said
