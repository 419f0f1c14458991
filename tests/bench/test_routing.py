"""Where a next turn goes: by prefix against chance, at two real instances and at 64 simulated ones."""

import asyncio
import random
from pathlib import Path
from time import perf_counter

import openai
import pytest
from msgspec import Struct, field

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec
from tests.bench.contenders import SHAPES
from tests.bench.fleet import Fleet, Machine, Trace, by_chance, by_load, by_prefix
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

CONVERSATIONS, TURNS, CLIENTS = 64, 4, 2
FIRST, SAID = 1500, 100
"""Letters of the first message, and of each later one; nearly two make a token."""
ANSWER = 8
CACHE_BYTES = 400 * 2**20
"""Of each instance: both together keep all conversations, one alone does not."""


class Talk(Struct):
    """One conversation; nothing of it is in another."""

    messages: list[dict[str, str]]
    first_s: list[float] = field(default_factory=list)
    """Of each turn."""
    prompt_tokens: int = 0
    cached_tokens: int = 0

    async def turn(self, client: openai.AsyncOpenAI, model: str) -> None:
        sent, first, words = perf_counter(), 0.0, ""
        async for chunk in await client.chat.completions.create(
            model=model,
            messages=self.messages,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # plain dicts
            max_tokens=ANSWER,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or perf_counter()
                words += chunk.choices[0].delta.content
            if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
                self.prompt_tokens += chunk.usage.prompt_tokens
                self.cached_tokens += chunk.usage.prompt_tokens_details.cached_tokens or 0
        self.first_s.append((first or perf_counter()) - sent)
        self.messages += [{"role": "assistant", "content": words}, {"role": "user", "content": said(SAID)}]


def said(letters: int) -> str:
    return "".join(random.choices("bcdfghjklmnpqrstvwxz", k=letters))


class Side(Struct):
    """One way to choose, with two instances of its own; its model is called like it."""

    manner: str
    client: openai.AsyncOpenAI
    talks: list[Talk]


async def play(sides: list[Side]) -> None:
    """Turn by turn, each turn in another order, by a few clients at once; the sides in turns, on the same cores."""
    for _ in range(TURNS):
        waiting = [(talk, side) for side in sides for talk in side.talks]
        random.shuffle(waiting)

        async def work(waiting: list[tuple[Talk, Side]] = waiting) -> None:
            while waiting:
                talk, side = waiting.pop()
                await talk.turn(side.client, side.manner)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))


async def test_two_instances(table: Table, start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / "16M", **SHAPES["16M"], context=8000)
    quiet = ("--model", "none", "--log-level", "info")
    core = await start_node("core", *quiet, "--no-api")
    url = ("--nats", core.info.nats_url, *quiet, "--api-only")
    chance = await start_node("chance", *url, program="tests.bench.random_router")
    prefix = await start_node("prefix", *url)
    random.seed(1)
    sides = [side("chance", chance), side("prefix", prefix)]
    async with watching(core) as bus:
        for each in sides:
            await load(bus, each.manner, folder)
    await play(sides)
    by_chance_s, by_prefix_s = (show(table, each) for each in sides)
    ratio = by_prefix_s / by_chance_s
    table.add("Routing", "two 16M instances: later turns' TTFT by prefix / by chance", f"{ratio:.2f}")
    for each in sides:
        await each.client.close()


def side(manner: str, door: NodeProcess) -> Side:
    client = openai.AsyncOpenAI(base_url=door.openai_url, api_key="none", max_retries=0)
    return Side(
        manner, client, [Talk([{"role": "user", "content": said(FIRST)}]) for _ in range(CONVERSATIONS)]
    )


async def load(bus: Bus, name: str, folder: Path) -> None:
    """Two instances with empty caches."""
    spec = ModelSpec(id=ModelId(name), source=str(folder), replicas=2, cache_bytes=CACHE_BYTES)
    assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
    await bus.view.until(
        lambda s: sum(each.status == "ready" for each in s.instances_of(ModelId(name))) == 2, 120
    )


def show(table: Table, side: Side) -> float:
    """Median time to the first token of later turns."""
    talks = side.talks
    later = [took for talk in talks for took in talk.first_s[1:]]
    prompt, cached = sum(talk.prompt_tokens for talk in talks), sum(talk.cached_tokens for talk in talks)
    p50, p99 = percentile(later, 0.5), percentile(later, 0.99)
    note = f"later turns' TTFT p50 {ms(p50)} p99 {ms(p99)}; {CONVERSATIONS} conversations of {TURNS} turns"
    table.add("Routing", f"two 16M instances: hit rate by {side.manner}", f"{cached / prompt:.0%}", "", note)
    return p50


@pytest.mark.parametrize(
    ("what", "trace"),
    [("16 system prompts of 600 tokens", Trace(2000)), ("2 of 3,000", Trace(2000, systems=2, system=3000))],
)
def test_sixty_four_simulated_instances(table: Table, what: str, trace: Trace) -> None:
    for name, route in (("chance", by_chance), ("load alone", by_load), ("prefix", by_prefix)):
        random.seed(1)
        outcome = Fleet(64, Machine(), route).play(trace)
        p50, p99 = percentile(outcome.first_s, 0.5), percentile(outcome.first_s, 0.99)
        note = (
            f"{what}; TTFT p50 {ms(p50)} p99 {ms(p99)}; at best {outcome.best_rate:.0%}; "
            f"busiest / mean {outcome.spread:.2f}"
        )
        table.add(
            "Routing", f"64 simulated instances: hit rate by {name}", f"{outcome.hit_rate:.0%}", "", note
        )
