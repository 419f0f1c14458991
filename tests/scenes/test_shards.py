"""A model that is split over two nodes: served as from one, whichever of its ranks dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import openai
import pytest

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId, NodeId
from schemas.instance import Instance, Split
from schemas.model import ModelSpec, Share
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TOKENS = 600
MANNERS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.9, "seed": 7},
    {"temperature": 0.9, "seed": 8, "n": 2},
]


class Reading:
    """One stream; `words` of each choice, and whether it is well on its way."""

    def __init__(
        self, client: openai.AsyncOpenAI, model: str, manner: dict[str, Any], tokens: int = TOKENS
    ) -> None:
        self._client = client
        self._model = model
        self._manner = manner
        self._tokens = tokens
        self.begun = asyncio.Event()
        self.came = asyncio.Event()
        """Set whenever something came."""
        self.words = [""] * manner.get("n", 1)
        self.times: list[float] = []
        """When something came."""

    async def read(self) -> list[str]:
        stream = await self._client.chat.completions.create(
            model=self._model,
            messages=[{"role": "user", "content": "Tell me a story of a shard"}],
            max_tokens=self._tokens,
            stream=True,
            extra_body={"ignore_eos": True},
            **self._manner,
        )
        async for chunk in stream:
            self.times.append(perf_counter())
            self.came.set()
            for choice in chunk.choices:
                self.words[choice.index] += choice.delta.content or ""
            if all(len(words) > 20 for words in self.words):
                self.begun.set()
        return self.words


class Stage:
    """Two nodes on one bus, seen by a client."""

    def __init__(self, nodes: list[NodeProcess], bus: Bus, client: openai.AsyncOpenAI) -> None:
        self.nodes = nodes
        self.bus = bus
        self.client = client

    def runner(self, node: NodeId) -> int:
        """The pid of the runner that was started last there."""
        (there,) = [each for each in self.nodes if each.node == node]
        return there.runner_pids()[-1]

    async def load(self, name: str, folder: Path, split: Split, ranks: int = 2) -> Instance:
        """In `ranks` shards, or as a whole on the first node; returns when it is ready."""
        shares = tuple(Share(node=node.node) for node in self.nodes[:ranks]) if ranks > 1 else ()
        spec = ModelSpec(id=ModelId(name), source=str(folder), strategy=split, split=shares)
        answer = await command(self.bus, LoadModel(spec=spec))
        assert isinstance(answer, Done), answer
        return await self.ready(name)

    async def ready(self, name: str, attempt: int = 1) -> Instance:
        def found() -> list[Instance]:
            there = self.bus.view.state.instances_of(ModelId(name))
            return [each for each in there if each.status == "ready" and each.attempt >= attempt]

        await self.bus.view.until(lambda _: found(), timeout_s=90)
        return found()[0]

    def readings(self, model: str) -> list[Reading]:
        return [Reading(self.client, model, manner) for manner in MANNERS]

    async def read(self, model: str) -> list[list[str]]:
        return await asyncio.gather(*(each.read() for each in self.readings(model)))


@pytest.fixture
async def stage(nats_server: Server, start_node: StartNode) -> AsyncIterator[Stage]:
    url = ("--nats", nats_server.url, "--model", "none")
    nodes = list(await asyncio.gather(start_node("a", *url), start_node("b", *url, "--no-api")))
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(watching(nodes[0]))
        client = openai.AsyncOpenAI(base_url=nodes[0].openai_url, api_key="none", max_retries=0, timeout=120)
        yield Stage(nodes, bus, await stack.enter_async_context(client))


@pytest.mark.parametrize(
    ("split", "number"),
    [("pipeline", signal.SIGKILL), ("tensor", signal.SIGKILL), ("pipeline", signal.SIGSTOP)],
)
async def test_no_stream_breaks_when_a_rank_dies(
    stage: Stage, split: Split, number: signal.Signals, tmp_path: Path
) -> None:
    """Killed or frozen, the first or the last; before it was split the model said the same."""
    folder = make_random_llama(tmp_path / "model", context=1024)
    await stage.load("whole", folder, "whole", ranks=1)
    undisturbed = await stage.read("whole")
    instance = await stage.load("split", folder, split)
    assert (instance.split, len(instance.nodes)) == (split, 2)
    assert await stage.read("split") == undisturbed
    for death, shard in enumerate(instance.shards, start=1):
        readings = stage.readings("split")
        reading = [asyncio.create_task(each.read()) for each in readings]
        await asyncio.gather(*(each.begun.wait() for each in readings))
        os.kill(stage.runner(shard.node), number)
        assert await asyncio.gather(*reading) == undisturbed
        again = await stage.ready("split", instance.attempt + death)
        assert again.id == instance.id
    assert not any("actor.failed" in node.journal for node in stage.nodes)


async def test_two_split_models_on_the_same_nodes(stage: Stage, tmp_path: Path) -> None:
    """One is killed while both speak: the other one does not notice."""
    folders = [make_random_llama(tmp_path / name, context=1024, seed=at) for at, name in enumerate("xy")]
    instances = [
        await stage.load(folder.name, folder, split)
        for folder, split in zip(folders, ("pipeline", "tensor"), strict=True)
    ]
    undisturbed = [await stage.read(name) for name in "xy"]
    assert undisturbed[0] != undisturbed[1]
    together = [asyncio.create_task(stage.read(name)) for name in "xy"]
    os.kill(stage.runner(instances[0].shards[0].node), signal.SIGKILL)
    assert await asyncio.gather(*together) == undisturbed
    lives = [(await stage.ready(each.spec.id)).attempt - each.attempt for each in instances]
    assert sorted(lives) == [0, 1]
