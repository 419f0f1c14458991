"""What a kept prefix saves: the second turn of a conversation beside its first."""

import asyncio
from pathlib import Path
from time import perf_counter

import pytest
from openai import OpenAI

from tests.bench.contenders import SHAPES, load
from tests.bench.table import Table, ms, percentile
from tests.models import make_random_llama
from tests.nodes import StartNode

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

CONVERSATIONS = 12
PROMPT = "ab" * 2000
"""Each `ab` is a token of the random models' tokenizer."""


async def test_the_second_turn(table: Table, start_node: StartNode, tmp_path: Path) -> None:
    folder = make_random_llama(tmp_path / "16M", **SHAPES["16M"], context=8000)
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, folder, "16M")
    client = OpenAI(base_url=node.openai_url, api_key="none", max_retries=0)
    first: list[float] = []
    second: list[float] = []
    cached: list[int] = []
    for number in range(CONVERSATIONS):
        history = [{"role": "user", "content": f"{number:04d} {PROMPT}"}]
        took, words, _ = await asyncio.to_thread(turn, client, history)
        first.append(took)
        history += [{"role": "assistant", "content": words}, {"role": "user", "content": "and then?"}]
        took, _, found = await asyncio.to_thread(turn, client, history)
        second.append(took)
        cached.append(found)
    ratio = percentile(second, 0.5) / percentile(first, 0.5)
    note = (
        f"p50 {ms(percentile(first, 0.5))} -> {ms(percentile(second, 0.5))}; "
        f"{percentile([float(c) for c in cached], 0.5):.0f} tokens were cached"
    )
    table.add(
        "Prefix", "second turn's TTFT / first, 2k tokens of prompt, 16M", f"{ratio:.2f}", "<= 0.2", note
    )


def turn(client: OpenAI, history: list[dict[str, str]]) -> tuple[float, str, int]:
    """Seconds to the first token, the words, and how many tokens of the prompt were cached."""
    sent, first, words, cached = perf_counter(), 0.0, "", 0
    for chunk in client.chat.completions.create(
        model="16M",
        messages=history,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # plain dicts
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or perf_counter() - sent
            words += chunk.choices[0].delta.content
        if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
            cached = chunk.usage.prompt_tokens_details.cached_tokens or 0
    return first, words, cached
