"""A model that four nodes share in pairs: served as from one, though one of its ranks dies."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import openai
import pytest

from schemas.ids import ModelId
from schemas.state import State
from tests.models import make_random_llama
from tests.nodes import StartNode, watching
from tests.scenes.test_models import actors_does
from tests.scenes.test_shards import Reading, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

TOKENS = 200
"""Four ranks on two cores wait for each other's turns on them."""


async def test_no_stream_breaks_when_a_rank_of_a_pair_dies(start_node: StartNode, tmp_path: Path) -> None:
    folder = str(make_random_llama(tmp_path / "model", context=1024))
    first = await start_node("a", "--model", "none")
    url = ("--nats", first.info.nats_url, "--model", "none", "--no-api")
    nodes = [first, *await asyncio.gather(*(start_node(name, *url) for name in "bcd"))]
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(watching(first))
        client = openai.AsyncOpenAI(base_url=first.openai_url, api_key="none", max_retries=0, timeout=300)
        stage = Stage(nodes, bus, await stack.enter_async_context(client))
        await actors_does(first, "load", folder, "--id", "whole")
        await stage.ready("whole")
        undisturbed = await _reading(client, "whole").read()
        await actors_does(first, "unload", "whole")

        await actors_does(first, "load", folder, "--id", "pairs", "--strategy", "hybrid")
        instance = await stage.ready("pairs")
        assert (instance.split, len(instance.nodes)) == ("hybrid", 4)
        reading = _reading(client, "pairs")
        words = asyncio.create_task(reading.read())
        await reading.begun.wait()
        (upper,) = [shard.node for shard in instance.shards if shard.rank == 3]
        os.kill(stage.runner(upper), signal.SIGKILL)
        assert await words == undisturbed

        def lives_again(state: State) -> bool:
            lives = state.instances_of(ModelId("pairs"))
            return any(each.status == "ready" and each.ready_at > instance.ready_at for each in lives)

        await bus.view.until(lives_again, timeout_s=90)


def _reading(client: openai.AsyncOpenAI, model: str) -> Reading:
    return Reading(client, ModelId(model), {"temperature": 0}, TOKENS)
