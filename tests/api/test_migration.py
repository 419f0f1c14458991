"""Whoever works on a request is lost: its client reads on as if nothing had been."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from bus.bus import Bus
from schemas.events import InstancePlaced
from schemas.ids import InstanceId, NodeId
from schemas.instance import Shard
from schemas.task import Made, Task, pack_ids, unpack_ids
from tests.api.stage import Actor, Play, Stage, chat, ids_of, spec, staged
from tests.facts import joined

PATH = "/v1/chat/completions"
TEXT = "the quick brown fox jumps over the lazy dog"


@pytest.fixture
async def stage(bus: Bus) -> AsyncIterator[Stage]:
    async with staged(bus) as stage:
        yield stage


def goes_on(text: str, reaches: int | None = None) -> Play:
    """Answers `text` from where the task says, up to token `reaches` and no further."""
    ids = ids_of(text)

    async def play(actor: Actor, task: Task) -> None:
        begin = task.made[0].count if task.made else 0
        assert not task.made or unpack_ids(task.made[0].ids) == ids[:begin]
        await actor.start(task)
        for offset in range(begin, len(ids) if reaches is None else reaches):
            await actor.tokens(task, [ids[offset]], offset)
        if reaches is None:
            await actor.end(task, len(ids))

    return play


async def streamed(stage: Stage, on_words: Callable[[str], Awaitable[None]], **more: object) -> str:
    """The words of a stream; `on_words` is told all of them each time that there are more."""
    words = ""
    async with stage.http.stream("POST", PATH, json=chat(stream=True, **more)) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            content = event["choices"][0]["delta"].get("content")
            if content:
                words += content
                await on_words(words)
    return words


class Once:
    """Does something when so many words are there, once."""

    def __init__(self, words: str, act: Callable[[], Awaitable[object]]) -> None:
        self._words = words
        self._act = act
        self.done = False

    async def __call__(self, words: str) -> None:
        if words.startswith(self._words) and not self.done:
            self.done = True
            await self._act()


SOME = TEXT[:9]
REACHES = len(ids_of(SOME))


async def fail(stage: Stage) -> None:
    await stage.report(InstanceId("first"), "failed", reason="killed by signal 9", fate="killed")


async def restart(stage: Stage) -> None:
    await stage.retry(InstanceId("first"), 2)


async def remove(stage: Stage) -> None:
    await stage.delete(InstanceId("first"))


async def lose_node(stage: Stage) -> None:
    await stage.lose_node()


async def place_on(stage: Stage, node: str, name: str) -> InstanceId:
    """On a node of its own."""
    await stage.seen(await stage.bus.log.record(joined(node)))
    instance = InstanceId(name)
    shards = (Shard(node=NodeId(node)),)
    await stage.decide(InstancePlaced(instance=instance, spec=spec(), shards=shards))
    await stage.report(instance, "ready")
    return instance


@pytest.mark.parametrize("breaks", [fail, restart, remove, lose_node])
async def test_a_lost_runner_is_not_noticed(stage: Stage, breaks: Callable[[Stage], Awaitable[None]]) -> None:
    first = await stage.place("first")
    async with Actor(stage.bus, first, goes_on(TEXT, REACHES)).on_stage() as lost:

        async def end() -> None:
            second = Actor(stage.bus, await place_on(stage, "n2", "second"), goes_on(TEXT))
            stack.append(second)
            await breaks(stage)
            other = second.on_stage()
            await other.__aenter__()
            stack.append(other)

        stack: list[object] = []
        assert await streamed(stage, Once(SOME, end), seed=7) == TEXT
        (task,) = lost.tasks
        (again,) = stack[0].tasks  # type: ignore[attr-defined]
        await stack[1].__aexit__(None, None, None)  # type: ignore[attr-defined]
    assert again == msgspec.structs.replace(task, attempt=2, made=(Made(pack_ids(ids_of(TEXT)[:REACHES])),))
