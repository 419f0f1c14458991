"""Many clients, one model: the whole cluster beside raw mlx-lm's batch and mlx_lm.server, taking turns."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bench.contenders import AIMS, PEER_WORDS, SHAPES, Prompts, Raw, load, peer
from tests.bench.conversation import WORDS, Conversation
from tests.bench.crowd import Job, Result
from tests.bench.processes import crowd
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import StartNode

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

STREAMS = (1, 2, 4, 8, 16)
TOKENS = {"1M": 256, "16M": 128}
ROUNDS = 4
JOINS = 15


def job(url: str, model: str, contents: list[str], tokens: int, *, closes: bool = False) -> Job:
    host, port = url.removeprefix("http://").split(":")
    return Job(
        host=host,
        port=int(port),
        model=model,
        streams=len(contents),
        requests=1,
        tokens=tokens,
        prompts=contents,
        greedy=True,
        closes=closes,
    )


def speed(result: Result) -> float:
    assert not result.errors, result.errors
    return result.tokens / result.wall_s


@pytest.mark.parametrize("size", SHAPES)
async def test_many_streams(size: str, table: Table, start_node: StartNode, tmp_path: Path) -> None:
    """Tokens a second from the first request to the last token, prompts included."""
    folder = make_random_llama(tmp_path / size, **SHAPES[size])
    prompts, tokens = Prompts(folder), TOKENS[size]
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, size)
    async with AsyncExitStack() as stack:
        raw = await Raw.start(folder)
        stack.push_async_callback(raw.stop)
        server = await stack.enter_async_context(peer(folder))
        for streams in STREAMS:
            speeds: dict[str, list[float]] = {"raw": [], "cluster": [], "server": []}
            for round_ in range(ROUNDS + 1):
                asked = [prompts.next() for _ in range(streams)]
                contents, ids = [content for content, _ in asked], [ids for _, ids in asked]
                many = await raw.ask_many(ids, tokens)
                ours = await crowd(job(node.info.api_url, size, contents, tokens))
                theirs = await crowd(job(server, str(folder), contents, tokens, closes=True))
                if round_:  # the first one warms
                    speeds["raw"].append(many.tokens / many.wall_s)
                    speeds["cluster"].append(speed(ours))
                    speeds["server"].append(speed(theirs))
            write(table, size, streams, speeds)


def write(table: Table, size: str, streams: int, speeds: dict[str, list[float]]) -> None:
    group = f"Many streams, {size} parameters, float32"
    median = {name: percentile(values, 0.5) for name, values in speeds.items()}
    for name, called in (("cluster", "Troupe"), ("server", "mlx_lm.server")):
        aim = f">= {AIMS[size]}" if name == "cluster" else ""
        note = f"{median['raw']:,.0f} -> {median[name]:,.0f} tokens/s, {TOKENS[size]} for each"
        ratio = f"{median[name] / median['raw']:.2f}"
        table.add(group, f"{called}: {streams} streams, ratio to raw", ratio, aim, note)


async def test_one_that_joins_four(table: Table, start_node: StartNode, tmp_path: Path) -> None:
    """Time to the first token of one more request, alone and beside four that run."""
    folder = make_random_llama(tmp_path / "16M", **SHAPES["16M"], context=100_000)
    prompts = Prompts(folder)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, "16M")
    async with peer(folder) as server:
        for called, url, model, words in (
            ("Troupe", node.info.api_url, "16M", WORDS),
            ("mlx_lm.server", server, str(folder), PEER_WORDS),
        ):
            joining = Conversation(url, words)
            alone = await first_tokens(joining, model, prompts)
            contents = [prompts.next()[0] for _ in range(4)]
            running = asyncio.create_task(crowd(job(url, model, contents, 1500, closes=called != "Troupe")))
            try:
                await first_tokens(joining, model, prompts, rounds=2)  # all four are under way after these
                beside = await first_tokens(joining, model, prompts)
                assert not running.done(), "the four have ended before the last one joined"
            finally:
                joining.close()
                await running
            ratio = percentile(beside, 0.5) / percentile(alone, 0.5)
            note = f"p50 {ms(percentile(alone, 0.5))} alone, {ms(percentile(beside, 0.5))} beside four"
            aim = "<= 3" if called == "Troupe" else ""
            table.add(
                "One that joins four, 16M", f"{called}: TTFT, ratio to alone", f"{ratio:.2f}", aim, note
            )


async def first_tokens(
    joining: Conversation, model: str, prompts: Prompts, rounds: int = JOINS
) -> list[float]:
    asked = [prompts.next()[0] for _ in range(rounds)]
    return [(await asyncio.to_thread(joining.ask, model, content, 2)).first_s for content in asked]
