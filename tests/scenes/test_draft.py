"""A model with a draft on a real node: loaded, asked, killed; what it says is what it says without one."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from actors.engine.guide.evaluate import MODEL_FOLDER
from tests.engine.drafts import make_draft
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_migration import kill_runner
from tests.scenes.test_models import actors, actors_does
from tests.scenes.test_runner_death import client_of

pytestmark = pytest.mark.slow

TOKENS = 600
MANNERS: list[dict[str, Any]] = [{"temperature": 0}, {"temperature": 0.8, "seed": 7}]


class Said:
    """One answer of the OpenAI SDK, as it streams."""

    def __init__(self) -> None:
        self.words = ""
        self.begun = asyncio.Event()
        self.proposed: tuple[int, int] | None = None
        """Right and wrong ones, as the usage has them."""

    async def read(self, client: openai.AsyncOpenAI, manner: dict[str, Any], **extensions: object) -> str:
        stream = await client.chat.completions.create(
            model="guide",
            messages=[{"role": "user", "content": "Count to 40"}],
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True, "provider_extensions": extensions},
            **manner,
        )
        async for chunk in stream:
            self.words += chunk.choices[0].delta.content or "" if chunk.choices else ""
            if len(self.words) > 100:
                self.begun.set()
            if chunk.usage is not None and (details := chunk.usage.completion_tokens_details):
                self.proposed = (
                    details.accepted_prediction_tokens or 0,
                    details.rejected_prediction_tokens or 0,
                )
        return self.words


async def test_a_draft_changes_no_word(start_node: StartNode, tmp_path: Path) -> None:
    node = await start_node("a")
    draft = str(make_draft("noisy", MODEL_FOLDER, tmp_path / "draft", noise=0.05))
    async with watching(node) as bus, client_of(node) as client:
        undisturbed = [await Said().read(client, manner) for manner in MANNERS]
        await actors_does(node, "load", "guide", "--draft", draft, "--draft-tokens", "3")
        for manner, words in zip(MANNERS, undisturbed, strict=True):
            said, without = Said(), Said()
            assert await said.read(client, manner) == words
            assert said.proposed is not None
            assert sum(said.proposed) > 0, "how many, the clock decides"
            assert await without.read(client, manner, speculation=False) == words
            assert without.proposed is None
        assert await drafted(node) > 0
        killed = Said()
        reading = asyncio.create_task(killed.read(client, MANNERS[1]))
        await killed.begun.wait()
        kill_runner(node)
        assert not reading.done(), "it was to be hit in the middle"
        assert await reading == undisturbed[1]
        (instance,) = bus.view.state.instances.values()
        assert (instance.attempt, instance.spec.draft) == (2, draft)
    assert "actor.failed" not in node.journal


async def drafted(node: NodeProcess) -> float:
    """As the metrics have it, once a pulse has told of some."""
    async with asyncio.timeout(10), httpx.AsyncClient(base_url=node.info.api_url) as http:
        while True:
            lines = (await http.get("/metrics")).text.splitlines()
            for line in lines:
                if line.startswith("troupe_drafted_tokens{") and float(line.split()[-1]):
                    return float(line.split()[-1])


async def test_a_draft_with_other_tokens_is_refused(start_node: StartNode, tmp_path: Path) -> None:
    node = await start_node("a", "--model", "none")
    draft = make_random_llama(tmp_path / "draft", hidden=32, vocab=700)
    code, said = await actors(node, "load", "guide", "--draft", str(draft))
    assert code
    assert "has 700 tokens, and the model in" in said
    (draft / "tokenizer.json").unlink()
    code, said = await actors(node, "load", "guide", "--draft", str(draft))
    assert code
    assert "guide (draft): tokenizer.json is missing in" in said
