"""Nothing waits behind somebody else's prompt: the same thing alone and beside what is heavy, in one run."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from bus.server import Server
from tests.bench.contenders import SHAPES, Prompts, load
from tests.bench.conversation import Conversation
from tests.bench.simulated import simulated_cluster
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import StartNode

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

GROUP = "Waiting for others"
CONTEXT = 40_000
LONG_TOKENS = 16_000
LONG = "ab" * LONG_TOKENS
"""Each `ab` is one token of the random models' tokenizer."""
WAITING = 500


@asynccontextmanager
async def prefilling(url: str, model: str, number: int) -> AsyncGenerator[asyncio.Event]:
    """A prompt of 16k tokens is read while the block runs; the event says that it is done."""
    done = asyncio.Event()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"{number:04d} {LONG}"}],
        "max_tokens": 1,
        "temperature": 0,
    }

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=None) as client:
            (await client.post(f"{url}/v1/chat/completions", json=body)).raise_for_status()
        done.set()

    asking = asyncio.create_task(ask())
    try:
        yield done
    finally:
        asking.cancel()
        await asyncio.wait([asking])


async def test_an_idle_model_beside_one_that_reads(
    table: Table, start_node: StartNode, tmp_path: Path
) -> None:
    """Time to the first token of a model, while another on the node reads 16k tokens."""
    folder = make_random_llama(tmp_path / "idle", **SHAPES["1M"])
    busy = make_random_llama(tmp_path / "busy", **SHAPES["16M"], context=CONTEXT)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, busy, "busy")
    await load(node, folder, "idle")
    prompts, conversation = Prompts(folder), Conversation(node.info.api_url)

    async def first() -> float:
        asked = prompts.next()[0]
        return (await asyncio.to_thread(conversation.ask, "idle", asked, 2)).first_s

    for _ in range(5):
        await first()
    alone = [await first() for _ in range(40)]
    beside: list[float] = []
    async with prefilling(node.info.api_url, "busy", 0) as done:
        while len(beside) < 40 and not done.is_set():
            beside.append(await first())
    conversation.close()
    ratio = percentile(beside, 0.5) / percentile(alone, 0.5)
    note = f"p50 {ms(percentile(alone, 0.5))} -> {ms(percentile(beside, 0.5))}, p99 {ms(percentile(alone, 0.99))} -> {ms(percentile(beside, 0.99))}, {len(beside)} requests"
    what = "an idle model's TTFT while another reads 16k tokens / alone"
    table.add(GROUP, what, f"{ratio:.2f}", "<= 1.3", note)


class Stream:
    """One that is listened to: when each of its tokens came."""

    def __init__(self, url: str, content: str) -> None:
        self._url = url
        self._content = content
        self.at: list[float] = []

    async def listen(self, client: httpx.AsyncClient) -> None:
        body = {
            "model": "16M",
            "messages": [{"role": "user", "content": self._content}],
            "max_tokens": 20_000,
            "temperature": 0,
            "stream": True,
        }
        async with client.stream("POST", f"{self._url}/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if '"content":' in line:
                    self.at.append(perf_counter())

    def gaps(self, positions: range) -> list[float]:
        return [self.at[each] - self.at[each - 1] for each in positions if each]


@asynccontextmanager
async def listening(url: str, prompts: Prompts) -> AsyncGenerator[list[Stream]]:
    """Four streams, as long as the block runs."""
    streams = [Stream(url, prompts.next()[0]) for _ in range(4)]
    async with httpx.AsyncClient(timeout=None) as client:
        tasks = [asyncio.create_task(stream.listen(client)) for stream in streams]
        try:
            yield streams
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_running_streams_beside_a_long_prompt(
    table: Table, start_node: StartNode, tmp_path: Path
) -> None:
    """Time between the tokens of four streams, while their own model reads 16k tokens of a fifth; a token costs more
    the more came before it, so that they are compared with the same tokens of four streams that run alone."""
    folder = make_random_llama(tmp_path / "16M", **SHAPES["16M"], context=CONTEXT)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, "16M")
    url, prompts = node.info.api_url, Prompts(folder)
    async with listening(url, prompts) as streams:
        await asyncio.sleep(3)  # until all four run
        begun = [len(stream.at) for stream in streams]
        began = perf_counter()
        async with prefilling(url, "16M", 1) as done, asyncio.timeout(900):
            await done.wait()
        took = perf_counter() - began
        beside = [range(begin, len(stream.at)) for begin, stream in zip(begun, streams, strict=True)]
        during = [gap for stream, part in zip(streams, beside, strict=True) for gap in stream.gaps(part)]
    async with listening(url, prompts) as streams, asyncio.timeout(900):
        while any(len(stream.at) < part.stop for stream, part in zip(streams, beside, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # what listens must not spend time on anybody who waits
        alone = [gap for stream, part in zip(streams, beside, strict=True) for gap in stream.gaps(part)]
    ratio = percentile(during, 0.99) / percentile(alone, 0.99)
    note = (
        f"p99 {ms(percentile(alone, 0.99))} -> {ms(percentile(during, 0.99))}, "
        f"p50 {ms(percentile(alone, 0.5))} -> {ms(percentile(during, 0.5))}, "
        f"longest {ms(max(alone))} -> {ms(max(during))}; the prompt took {took:.1f} s"
    )
    table.add(
        GROUP,
        "inter-token p99 of four streams during a 16k prefill / without",
        f"{ratio:.2f}",
        "<= 3",
        note,
    )


async def test_the_high_lane_beside_a_full_batch_lane(
    table: Table, start_node: StartNode, nats_server: Server
) -> None:
    """Time to the first token in the high lane, while 500 requests of the batch lane, of another process, wait."""
    async with simulated_cluster(start_node, nats_server) as cluster, cluster.model(200, slots=16) as model:
        url = cluster.door.info.api_url
        async with httpx.AsyncClient(timeout=None) as client:

            async def first() -> float:
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": "the sea"}],
                    "max_tokens": 2,
                    "stream": True,
                }
                sent, heard = perf_counter(), 0.0
                headers = {"X-Troupe-Priority": "high"}
                async with client.stream(
                    "POST", f"{url}/v1/chat/completions", json=body, headers=headers
                ) as answer:
                    async for line in answer.aiter_lines():
                        if '"content":"' in line and '"content":""' not in line:
                            heard = heard or perf_counter()
                assert heard, "no token came"
                await asyncio.sleep(0.05)  # so that the others have time to go on
                return heard - sent

            async def figure(pattern: str) -> float:
                text = (await client.get(f"{url}/metrics")).text
                return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE))

            async def ended() -> float:
                return await figure(r'troupe_requests_total{.*outcome="length".*}')

            alone = [await first() for _ in range(40)]
            waiting = asyncio.create_task(
                cluster.load(model, streams=WAITING, requests=3, tokens=40, lane="batch")
            )
            async with asyncio.timeout(60):
                while await figure(r'troupe_queue_depth{.*lane="batch".*}') < WAITING / 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            before = await ended()
            beside = [await first() for _ in range(40)]
            progressed = await ended() - before - len(beside)
            result, _ = await waiting
            assert not result.errors
    ratio = percentile(beside, 0.5) / percentile(alone, 0.5)
    note = (
        f"p50 {ms(percentile(alone, 0.5))} -> {ms(percentile(beside, 0.5))}, "
        f"p99 {ms(percentile(alone, 0.99))} -> {ms(percentile(beside, 0.99))}; "
        f"{progressed:.0f} of the batch lane ended meanwhile"
    )
    table.add(
        GROUP, f"high lane's TTFT while {WAITING} batch requests wait / alone", f"{ratio:.2f}", "<= 1.5", note
    )
    assert progressed > 0
