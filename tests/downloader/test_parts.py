"""What comes to a node that carries only some of a model's layers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from actors.downloader.damaged_model import DamagedModel
from actors.downloader.model_files import describe
from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.parts import layers_of
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Need, Progress
from actors.downloader.sources.sources import Sources
from schemas.ids import ModelId
from tests.hub import Hub
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"
LAYERS = 12


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """12 layers of 0.8 MB each."""
    return make_random_llama(tmp_path / "llama", hidden=128, layers=LAYERS)


@pytest.fixture
def sources(hub: Hub, llama: Path, tmp_path: Path) -> Sources:
    hub.add("org/llama", llama)
    return Sources(Shelf(tmp_path / "models"), {}, HubAccess(url=hub.url))


async def fetch(sources: Sources, need: Need) -> tuple[Path, int]:
    """The folder, and how many bytes came."""
    progress = Progress()
    fetched = await sources.named("hf:org/llama").fetch(progress, need)
    assert fetched.layers == need
    return fetched.folder, progress.bytes_outside


def tensors(folder: Path) -> dict[str, Any]:
    with safe_open(folder / WEIGHTS, "np") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dictionary


def same_layers(folder: Path, original: Path) -> set[int]:
    """Those of which every weight is as in the original; all that belongs to none must be."""
    here, there = tensors(folder), tensors(original)
    equal = {name: bool(np.array_equal(here[name], there[name])) for name in there}
    layers = layers_of(there, LAYERS)
    assert all(equal[name] for name in there if name not in layers)
    return {layer for layer in range(LAYERS) if all(equal[name] for name in layers if layers[name] == layer)}


async def test_a_shard_brings_its_layers_and_what_belongs_to_none(
    sources: Sources, llama: Path, hub: Hub
) -> None:
    folder, came = await fetch(sources, ((4, 7),))
    whole = (llama / WEIGHTS).stat().st_size
    assert {4, 5, 6} <= same_layers(folder, llama) < set(range(LAYERS))
    assert came == hub.served.total() < whole * 0.6
    assert not (folder.parents[1] / WEIGHTS).exists(), "a file with holes is not taken for a whole one"


async def test_a_shards_folder_is_one_that_can_be_described_and_loaded(
    sources: Sources, llama: Path, tmp_path: Path
) -> None:
    folder, _ = await fetch(sources, ((0, 2),))
    described, whole = describe(ModelId("m"), folder), describe(ModelId("m"), llama)
    assert described == whole
    assert sum(path.stat().st_blocks for path in folder.iterdir()) * 512 < (llama / WEIGHTS).stat().st_size


async def test_a_wider_need_brings_the_rest_alone(sources: Sources, llama: Path, hub: Hub) -> None:
    _, first = await fetch(sources, ((0, 4),))
    folder, second = await fetch(sources, ((0, 8),))
    assert same_layers(folder, llama) >= set(range(8))
    assert second
    folder, third = await fetch(sources, None)
    assert (folder / WEIGHTS).read_bytes() == (llama / WEIGHTS).read_bytes()
    assert (
        first + second + third == hub.served.total() == sum(path.stat().st_size for path in llama.iterdir())
    )


async def test_what_is_all_here_is_whole_for_every_shard(sources: Sources, hub: Hub) -> None:
    whole, _ = await fetch(sources, None)
    hub.stop()
    fetched = await sources.named("hf:org/llama").fetch(Progress(), ((0, 2),))
    assert (fetched.folder, fetched.layers) == (whole, None)


async def test_a_damaged_piece_of_a_shard_is_mended(sources: Sources, llama: Path) -> None:
    folder, _ = await fetch(sources, ((0, 2),))
    with (folder / WEIGHTS).open("r+b") as opened:
        opened.seek(3000)
        opened.write(b"damage")
    folder, came = await fetch(sources, ((0, 2),))
    assert 0 < came <= 1024 * 1024
    assert same_layers(folder, llama) >= {0, 1}


async def test_a_header_beyond_the_file_is_named(sources: Sources, llama: Path, hub: Hub) -> None:
    files = {path.name: path.read_bytes() for path in llama.iterdir()}
    hub.add("org/llama", {**files, WEIGHTS: b"\xff" * 2_000_000})
    with pytest.raises(DamagedModel, match=r"model\.safetensors is no safetensors file"):
        await fetch(sources, ((0, 2),))


async def test_a_model_in_several_files(sources: Sources, llama: Path, hub: Hub) -> None:
    """Of a file in which nothing is needed, only the header comes."""
    both = {path.name: path.read_bytes() for path in llama.iterdir() if path.name != WEIGHTS}
    names = {"model-1.safetensors": (0, 6), "model-2.safetensors": (6, LAYERS)}
    there = tensors(llama)
    layers = layers_of(there, LAYERS)
    index = {}
    for file, (first, end) in names.items():
        part = {name: value for name, value in there.items() if first <= layers.get(name, 0) < end}
        both[file] = encoded(part)
        index |= dict.fromkeys(part, file)
    both["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    hub.add("org/llama", both)
    folder, _ = await fetch(sources, ((0, 3),))
    assert hub.served["model-2.safetensors"] <= 1024 * 1024
    assert describe(ModelId("m"), folder).card.parameters == sum(value.size for value in there.values())


def encoded(part: dict[str, Any]) -> bytes:
    from safetensors.numpy import save

    return save(part)


@pytest.mark.parametrize(
    ("names", "depth", "known"),
    [
        (["model.layers.0.w", "model.layers.1.w", "model.norm.w"], 2, {0, 1}),
        (["transformer.h.0.attn.bias", "transformer.h.1.attn.bias"], 2, {0, 1}),
        (["model.layers.0.mlp.experts.0.w", "model.layers.1.mlp.experts.1.w"], 2, {0, 1}),
        (["model.layers.0.w", "model.layers.1.w", "model.layers.2.mtp"], 2, {0, 1}),
        (["model.layers.0.w", "model.layers.1.w", "vision.blocks.0.w"], 2, {0, 1}),
        (["model.layers.0.w", "model.layers.1.w", "vision.layers.0.w", "vision.layers.1.w"], 2, set()),
        (["model.layers.0.w", "model.layers.1.w"], None, set()),
    ],
)
def test_layers_are_the_one_stack_that_is_as_deep_as_the_model(
    names: list[str], depth: int | None, known: set[int]
) -> None:
    """Where that is not clear, all is needed."""
    assert set(layers_of(names, depth).values()) == known
