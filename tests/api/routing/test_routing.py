"""Where a request costs least: as a function, and at two instances that play their parts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.routing.costs import RUNNING_TOKENS, Candidate, cost, ranked
from bus.bus import Bus
from schemas.ids import InstanceId
from schemas.node import Pulse
from schemas.prefix import BLOCK, Prefixes, block_digests, join
from schemas.refused import Refused
from schemas.task import Task
from tests.api.stage import NODE, Actor, Stage, chat, ids_of, says, staged

PATH = "/v1/chat/completions"
LONG = "the quick brown fox jumps over the lazy dog " * 60
"""Nearly 600 tokens."""
ONE, TWO, THREE = InstanceId("one"), InstanceId("two"), InstanceId("three")


# The function

counts = st.integers(0, 10_000)
candidates = st.builds(Candidate, st.just(ONE), cached=counts, unread=counts, running=counts)


@given(counts, candidates)
def test_what_is_cached_is_saved_and_what_runs_is_paid_for(prompt: int, there: Candidate) -> None:
    nothing = Candidate(ONE, unread=there.unread, running=there.running)
    assert cost(prompt, nothing) - cost(prompt, there) == min(prompt, there.cached)
    idle = Candidate(ONE, cached=there.cached)
    assert cost(prompt, there) >= cost(prompt, idle) == prompt - min(prompt, there.cached)


def test_a_prefix_wins_until_load_outweighs_it() -> None:
    prompt, few = 2000, 3
    keeps = Candidate(ONE, cached=few * RUNNING_TOKENS, running=few - 1)
    assert ranked(prompt, [Candidate(TWO), keeps]) == [ONE, TWO]
    busier = Candidate(ONE, cached=few * RUNNING_TOKENS, running=few + 1)
    assert ranked(prompt, [Candidate(TWO), busier]) == [TWO, ONE]


def test_prompts_that_wait_to_be_read_count() -> None:
    assert ranked(100, [Candidate(ONE, unread=4000), Candidate(TWO, running=2)]) == [TWO, ONE]


def test_equals_are_in_random_order() -> None:
    first = {ranked(100, [Candidate(ONE), Candidate(TWO), Candidate(THREE)])[0] for _ in range(200)}
    assert first == {ONE, TWO, THREE}


# At instances


class Pair:
    """Two instances, and the API before them."""

    def __init__(self, stage: Stage, *actors: Actor) -> None:
        self.stage = stage
        self.actors = actors

    async def ask(self, text: str, **more: Any) -> Actor:
        """Returns whoever got it."""
        before = [len(actor.tasks) for actor in self.actors]
        response = await self.stage.http.post(PATH, json=chat(text, **more))
        assert response.status_code == 200, response.text
        (chosen,) = [a for a, count in zip(self.actors, before, strict=True) if len(a.tasks) > count]
        return chosen

    def other(self, actor: Actor) -> Actor:
        return next(each for each in self.actors if each is not actor)


@pytest.fixture
async def pair(bus: Bus) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(bus))
        actors = [await stack.enter_async_context(stage.actor(says("hi"), name)) for name in ("i1", "i2")]
        yield Pair(stage, *actors)


def prompt_of(actor: Actor) -> bytes:
    return actor.tasks[-1].prompt


async def say(bus: Bus, subject: str, *payloads: bytes) -> None:
    """Returns when they were heard here, and so by the API, which has the same connection and heard them first."""
    heard = asyncio.Queue[bytes]()
    async with bus.listening(subject, lambda payload, _: heard.put_nowait(payload)):
        for payload in payloads:
            await bus.send_raw(subject, payload)
            await heard.get()


async def announce(bus: Bus, actor: Actor, prompt: bytes, number: int = 1, attempt: int = 1) -> None:
    news = Prefixes(actor.instance, attempt, number, True, join(block_digests(prompt)))
    await say(bus, bus.subjects.prefixes(actor.instance), msgspec.msgpack.encode(news))


async def test_prompts_that_nobody_knows_are_spread(pair: Pair) -> None:
    for number in range(30):
        await pair.ask(f"{number:04d} {LONG}")
    assert all(actor.tasks for actor in pair.actors)


async def test_siblings_of_a_burst_follow_the_first(pair: Pair) -> None:
    """Before any runner has announced anything; the answers come at once, so that nobody is busy."""
    first = await pair.ask(LONG)
    for number in range(8):
        assert await pair.ask(f"{LONG} {number}") is first


async def test_a_prompt_goes_to_whoever_has_announced_its_beginning(bus: Bus, pair: Pair) -> None:
    first = await pair.ask(LONG)
    prompt = prompt_of(first)
    fresh = pair.other(first)
    await announce(bus, first, prompt)
    await announce(bus, first, b"", attempt=2)  # a new life, which keeps nothing
    await announce(bus, fresh, prompt)
    for number in range(8):
        assert await pair.ask(f"{LONG} {number}") is fresh
    assert len(prompt) // 4 > 10 * BLOCK


async def test_load_outweighs_a_small_prefix(bus: Bus, pair: Pair) -> None:
    first = await pair.ask(LONG)
    pulse = Pulse(
        instance=first.instance,
        attempt=1,
        steps=1,
        step_age_s=0.0,
        step_cpu_s=0.0,
        slowest_step_s=0.0,
        running=2 + len(ids_of(LONG)) // RUNNING_TOKENS,
    )
    await say(bus, bus.subjects.pulse(NODE, first.instance), msgspec.json.encode(pulse))
    assert await pair.ask(f"{LONG} 1") is pair.other(first)


async def test_what_was_not_taken_is_not_expected(pair: Pair) -> None:
    one, other = pair.actors
    one.answer = Refused("busy", "no slot is free")
    for number in range(6):
        assert await pair.ask(f"{number:04d} {LONG}") is other
    one.answer, other.answer = None, one.answer
    assert await pair.ask(f"0000 {LONG}") is one
    other.answer = None
    for number in range(1, 6):
        assert await pair.ask(f"{number:04d} {LONG}") is other


async def test_one_that_holds_many_sequences_is_asked_last(pair: Pair) -> None:
    """Short prompts have no blocks: what runs decides."""
    held, taken = asyncio.Event(), asyncio.Queue[Task]()

    async def holds(actor: Actor, task: Task) -> None:
        taken.put_nowait(task)
        await actor.start(task)
        await held.wait()
        await actor.tokens(task, ids_of("hi"))
        await actor.end(task, len(ids_of("hi")))

    for actor in pair.actors:
        actor.play = holds
    asking = []
    for _ in range(8):
        asking.append(asyncio.create_task(pair.stage.http.post(PATH, json=chat("hello"))))
        await taken.get()
    assert [len(actor.tasks) for actor in pair.actors] == [4, 4]
    held.set()
    assert {(await each).status_code for each in asking} == {200}


async def test_garbage_changes_nothing(bus: Bus, pair: Pair) -> None:
    first = await pair.ask(LONG)
    packed = msgspec.msgpack.encode
    garbage = (
        b"",
        b"\xc1",
        packed(Prefixes(first.instance, 9, 1, True, b"cut")),
        packed(Prefixes(InstanceId("nobody"), 1, 1, True, b"12345678")),
        packed(["X", first.instance, "1", 1, True]),
        b"\x91" * 100_000,
    )
    await say(bus, bus.subjects.prefixes(first.instance), *garbage)
    for number in range(4):
        assert await pair.ask(f"{LONG} {number}") is first
