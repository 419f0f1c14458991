"""What a draft saves: one stream of a model with one, beside the same model without.

The models are random, and random models agree with nobody. So their layers after the first few add only a part of what
they would, as the later layers of a trained model refine what the earlier ones found; the draft is those first layers
with the same embedding. How often it is right stands in the note.
"""

import asyncio
import json
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import pytest
from openai import OpenAI

from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec
from tests.bench.contenders import CONTENT
from tests.bench.table import Table, percentile
from tests.models import llama_config, make_random_llama, random_weights, save_safetensors
from tests.nodes import NodeProcess, StartNode, watching

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

VOCABULARY = 1024
ROUNDS, TOKENS = 8, 192
ALONE, DRAFTED = "alone", "drafted"
MANNERS: dict[str, dict[str, Any]] = {"greedy": {"temperature": 0}, "temperature 0.8": {"temperature": 0.8}}


class Pair(NamedTuple):
    """A model, and the part of it that is its draft."""

    hidden: int
    layers: int
    heads: int
    first: int
    """Layers of the draft."""
    share: float
    """Of what the other layers would add, what they do add."""


PAIRS = {
    "16M, a draft of 2.7M": Pair(384, 7, 6, 1, 0.1),
    "80M, a draft of 9.6M": Pair(768, 9, 12, 1, 0.1),
    "80M, a draft of 9.6M that is seldom right": Pair(768, 9, 12, 1, 0.5),
}


def make_pair(folder: Path, pair: Pair) -> tuple[Path, Path]:
    weights = random_weights(pair.hidden, pair.layers, VOCABULARY, pair.heads, seed=1)
    for name in weights:
        added = name.endswith(("o_proj.weight", "down_proj.weight"))
        if added and _layer(name) >= pair.first:
            weights[name] *= pair.share
    draft = {name: weight for name, weight in weights.items() if _layer(name) < pair.first}
    return (
        _written(folder / "model", pair, pair.layers, weights),
        _written(folder / "draft", pair, pair.first, draft),
    )


def _layer(name: str) -> int:
    """Embedding and norm are before all layers."""
    return int(name.split(".")[2]) if ".layers." in name else -1


def _written(folder: Path, pair: Pair, layers: int, weights: dict[str, Any]) -> Path:
    make_random_llama(folder, 16, 1, VOCABULARY)  # for its tokenizer
    config = llama_config(pair.hidden, layers, VOCABULARY, pair.heads, 2048)
    (folder / "config.json").write_text(json.dumps(config))
    save_safetensors(folder / "model.safetensors", weights)
    return folder


class Asked(NamedTuple):
    """One answer."""

    words: str
    tokens_s: float
    """From its first token to its last."""
    accepted: int
    rejected: int


@pytest.mark.parametrize("name", PAIRS)
async def test_a_draft(name: str, table: Table, start_node: StartNode, tmp_path: Path) -> None:
    model, draft = make_pair(tmp_path, PAIRS[name])
    node = await start_node("a", "--model", "none", "--log-level", "info")
    await load(node, ALONE, model)
    await load(node, DRAFTED, model, str(draft))
    client = OpenAI(base_url=node.openai_url, api_key="none", max_retries=0)
    for manner, values in MANNERS.items():
        said: dict[str, list[Asked]] = {ALONE: [], DRAFTED: []}
        for round_ in range(-2, ROUNDS):
            both = [await asyncio.to_thread(ask, client, each, round_, values) for each in (ALONE, DRAFTED)]
            assert both[0].words == both[1].words
            if round_ >= 0:  # the others warm it up
                said[ALONE].append(both[0])
                said[DRAFTED].append(both[1])
        alone, drafted = (percentile([each.tokens_s for each in said[who]], 0.5) for who in said)
        accepted = sum(each.accepted for each in said[DRAFTED])
        proposed = accepted + sum(each.rejected for each in said[DRAFTED])
        note = (
            f"{alone:.0f} -> {drafted:.0f} tokens/s, answers of {TOKENS} tokens; "
            f"{accepted} of {proposed} proposed tokens were right ({accepted / max(1, proposed):.0%}), "
            f"of {TOKENS * ROUNDS} in all"
        )
        table.add("A draft, one stream", f"{name}, {manner}", f"{drafted / alone:.2f}", ">= 1", note)


async def load(node: NodeProcess, name: str, folder: Path, draft: str = "") -> None:
    async with watching(node) as bus:
        spec = ModelSpec(id=ModelId(name), source=str(folder), node=node.node, draft=draft)
        assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
        await bus.view.until(lambda s: any(i.status == "ready" for i in s.instances_of(ModelId(name))), 120)


def ask(client: OpenAI, model: str, round_: int, values: dict[str, Any]) -> Asked:
    words, first, accepted, rejected = "", 0.0, 0, 0
    for chunk in client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"{round_:04d} {CONTENT}"}],
        max_tokens=TOKENS,
        seed=round_,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
        **values,
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or perf_counter()
            words += chunk.choices[0].delta.content
        if chunk.usage is not None and (details := chunk.usage.completion_tokens_details):
            accepted = details.accepted_prediction_tokens or 0
            rejected = details.rejected_prediction_tokens or 0
    return Asked(words, (TOKENS - 1) / (perf_counter() - first), accepted, rejected)
