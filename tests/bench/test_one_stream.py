"""One client, one stream: the whole cluster beside raw mlx-lm and mlx_lm.server, taking turns on the same model."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bench.contenders import AIMS, PEER_WORDS, SHAPES, Prompts, Raw, load, peer
from tests.bench.conversation import Conversation, Timed
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import StartNode

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

SHORT, SHORT_TOKENS = 150, 3
LONG = {"1M": (15, 256), "16M": (10, 128)}
"""How often, and how many tokens."""


@pytest.mark.parametrize("size", SHAPES)
async def test_one_stream(size: str, table: Table, start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / size, **SHAPES[size])
    prompts = Prompts(folder)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, size)
    async with AsyncExitStack() as stack:
        raw = await Raw.start(folder)
        stack.push_async_callback(raw.stop)
        cluster = Conversation(node.info.api_url)
        server = Conversation(await stack.enter_async_context(peer(folder)), PEER_WORDS)

        async def take_turns(rounds: int, tokens: int) -> dict[str, list[Timed]]:
            kept: dict[str, list[Timed]] = {"raw": [], "cluster": [], "server": []}
            for _ in range(rounds):
                content, ids = prompts.next()
                kept["raw"].append(await raw.ask(ids, tokens))
                kept["cluster"].append(await asyncio.to_thread(cluster.ask, size, content, tokens))
                kept["server"].append(await asyncio.to_thread(server.ask, str(folder), content, tokens))
            return kept

        rounds, tokens = LONG[size]
        await take_turns(3, tokens)  # warm
        short, long = await take_turns(SHORT, SHORT_TOKENS), await take_turns(rounds, tokens)
        cluster.close()
        server.close()
    assert {timed.tokens for timed in [*long["raw"], *long["cluster"]]} == {tokens}
    assert {t.prompt_tokens for asked in short.values() for t in asked} == {len(prompts.next()[1])}
    write(table, size, short, long, f"{len(prompts.next()[1])} tokens of prompt; {raw.blas}")


def write(
    table: Table, size: str, short: dict[str, list[Timed]], long: dict[str, list[Timed]], note: str
) -> None:
    group = f"One stream, {size} parameters, float32"
    first = {name: [timed.first_s for timed in asked] for name, asked in short.items()}
    between = {name: percentile([t.between_s for t in asked], 0.5) for name, asked in long.items()}
    speed = {name: percentile([t.tokens / t.last_s for t in asked], 0.5) for name, asked in long.items()}
    raw_first = percentile(first["raw"], 0.5)
    for name, called in (("cluster", "Troupe"), ("server", "mlx_lm.server")):
        ours = name == "cluster"
        p50, p99 = percentile(first[name], 0.5), percentile(first[name], 0.99)
        aside = f"{ms(raw_first)} -> {ms(p50)}; {note}" if ours else f"-> {ms(p50)}"
        table.add(group, f"{called}: added TTFT, p50", ms(p50 - raw_first), "<= 3 ms" if ours else "", aside)
        raw_p99 = percentile(first["raw"], 0.99)
        aside = f"{ms(raw_p99)} -> {ms(p99)}"
        table.add(group, f"{called}: added TTFT, p99", ms(p99 - raw_p99), "<= 15 ms" if ours else "", aside)
        aside = f"{ms(between['raw'])} -> {ms(between[name])}"
        table.add(group, f"{called}: added inter-token time", ms(between[name] - between["raw"]), "", aside)
        aim = f">= {AIMS[size]}" if ours else ""
        aside = f"{speed['raw']:.0f} -> {speed[name]:.0f} tokens/s, answers of {long['raw'][0].tokens} tokens"
        table.add(group, f"{called}: tokens/s, ratio to raw", f"{speed[name] / speed['raw']:.2f}", aim, aside)
