"""A second turn goes to whoever has the first one's keys and values, whichever node the client asks."""

import asyncio
from pathlib import Path

import msgspec
import openai

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import InstanceId, ModelId
from schemas.model import ModelSpec
from schemas.prefix import BLOCK, Digest, Prefixes, split
from tests.models import make_random_llama
from tests.nodes import StartNode, watching
from tests.scenes.test_runner_death import client_of

MODEL = ModelId("random")
CONVERSATIONS = 5


class Known:
    """What both instances say that they keep."""

    def __init__(self) -> None:
        self.digests: dict[InstanceId, set[Digest]] = {}
        self.wholes = 0
        self._news = asyncio.Event()

    def hear(self, payload: bytes, _: str) -> None:
        news = msgspec.msgpack.decode(payload, type=Prefixes)
        before = set[Digest]() if news.whole else self.digests.get(news.instance, set[Digest]())
        self.digests[news.instance] = (before - set(split(news.removed))) | set(split(news.added))
        self.wholes += news.whole
        self._news.set()

    async def until_blocks(self, blocks: int) -> None:
        """And until all of it has been said once more, so that everybody knows."""
        async with asyncio.timeout(30):
            while sum(len(each) for each in self.digests.values()) < blocks:
                await self._next()
            wholes = self.wholes
            while self.wholes < wholes + 4:
                await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


class Conversation:
    """With the model, which answers nonsense."""

    def __init__(self, number: int) -> None:
        self.messages: list[dict[str, str]] = [
            {"role": "user", "content": f"{number} " + f"ab{number}" * 100}
        ]
        self.tokens = self.cached = 0

    async def turn(self, client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=self.messages,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # plain dicts
            max_tokens=8,
        )
        assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
        self.tokens = answer.usage.prompt_tokens
        self.cached = answer.usage.prompt_tokens_details.cached_tokens or 0
        self.messages += [
            {"role": "assistant", "content": answer.choices[0].message.content or ""},
            {"role": "user", "content": "and then?"},
        ]


async def test_the_second_turn_is_computed_where_the_first_was(start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / "model")
    node = await start_node("a", "--model", "none")
    door = await start_node("b", "--nats", node.info.nats_url, "--api-only")
    known, conversations = Known(), [Conversation(number) for number in range(CONVERSATIONS)]
    async with watching(node) as bus, client_of(node) as one, client_of(door) as other:
        async with bus.listening(bus.subjects.all_prefixes, known.hear):
            await two_of(bus, folder)
            for conversation in conversations:
                await conversation.turn(one)
                assert conversation.cached <= BLOCK
            first = [conversation.tokens for conversation in conversations]
            await known.until_blocks(sum((tokens - 1) // BLOCK for tokens in first))
        for conversation, tokens in zip(conversations, first, strict=True):
            await conversation.turn(other)
            assert conversation.tokens > conversation.cached >= tokens - BLOCK
    assert "actor.failed" not in node.journal + door.journal


async def two_of(bus: Bus, folder: Path) -> None:
    """Two instances, ready."""
    spec = ModelSpec(id=MODEL, source=str(folder), replicas=2)
    assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
    await bus.view.until(
        lambda state: sum(each.status == "ready" for each in state.instances_of(MODEL)) == 2, timeout_s=100
    )
