"""A model's folder is whole, or the file that is wrong is named."""

import json
import math
import struct
from pathlib import Path

import pytest

from actors.downloader.damaged_model import DamagedModel
from actors.downloader.model_files import UNKNOWN_CONTEXT, describe
from schemas.ids import ModelId

ME = ModelId("org/me")


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def save(file: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    """A safetensors file of zeros: name -> type, shape, bytes."""
    header, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end := end + size]}
    head = json.dumps({"__metadata__": {"format": "mlx"}, **header}).encode()
    file.write_bytes(struct.pack("<Q", len(head)) + head + bytes(end))


def shard(folder: Path) -> None:
    """Replace the weights by two files and an index."""
    (folder / "model.safetensors").unlink()
    save(folder / "model-1.safetensors", {"a": ("F32", [2, 3], 24)})
    save(folder / "model-2.safetensors", {"b": ("BF16", [4], 8), "c": ("F32", [], 4)})
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_card_says_what_the_files_say(llama: Path) -> None:
    card = describe(ME, llama).card
    assert (card.architecture, card.vocabulary, card.context, card.eos_ids) == ("llama", 1024, 2048, (0,))
    assert card.weights_bytes == 4 * card.parameters
    assert card.artifact.startswith("org=2Fme-")


def test_weights_in_several_files(llama: Path) -> None:
    shard(llama)
    card = describe(ME, llama).card
    assert (card.parameters, card.weights_bytes) == (6 + 4 + 1, 24 + 8 + 4)


def test_packed_weights_count_as_what_they_stand_for(llama: Path) -> None:
    """4 bits: a row of 128 numbers is 16 words, with a scale and a bias for each 64, here 32 for one layer."""
    packed = {
        "m.weight": ("U32", [8, 16], 512),
        "m.scales": ("F16", [8, 2], 32),
        "m.biases": ("F16", [8, 2], 32),
    }
    other = {
        "n.weight": ("U32", [8, 16], 512),
        "n.scales": ("F16", [8, 4], 64),
        "n.biases": ("F16", [8, 4], 64),
    }
    save(llama / "model.safetensors", {**packed, **other, "n.bias": ("F16", [8], 16)})
    change(
        llama / "config.json", quantization={"group_size": 64, "bits": 4, "n": {"group_size": 32}, "o": False}
    )
    assert describe(ME, llama).card.parameters == 8 * 128 + 8 * 128 + 8


def test_the_language_part_of_a_larger_model_counts(llama: Path) -> None:
    inner = {"vocab_size": 99, "max_position_embeddings": 512, "eos_token_id": [7, 8]}
    change(llama / "config.json", text_config=inner, vocab_size=None, eos_token_id=None)
    card = describe(ME, llama).card
    assert (card.vocabulary, card.context, card.eos_ids) == (99, 512, (7, 8, 0))


def test_ends_are_gathered_from_all_files_that_name_one(llama: Path) -> None:
    (llama / "generation_config.json").write_text('{"eos_token_id": [9, 0], "temperature": 0.7}')
    change(llama / "tokenizer_config.json", eos_token={"content": "<|start|>", "special": True})
    assert describe(ME, llama).card.eos_ids == (9, 0, 1)


def test_context_that_nobody_says(llama: Path) -> None:
    change(llama / "config.json", max_position_embeddings=None)
    assert describe(ME, llama).card.context == UNKNOWN_CONTEXT
    change(llama / "tokenizer_config.json", model_max_length=10**30)
    assert describe(ME, llama).card.context == UNKNOWN_CONTEXT
    change(llama / "tokenizer_config.json", model_max_length=777)
    assert describe(ME, llama).card.context == 777


def test_a_model_without_a_template_is_one(llama: Path) -> None:
    (llama / "tokenizer_config.json").unlink()
    assert describe(ME, llama).card.eos_ids == (0,)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{", "config.json in .* is damaged"),
        ("config.json", b'{"vocab_size": 3}', "config.json in .* lacks `model_type`"),
        ("config.json", b'{"model_type": "llama", "vocab_size": "many"}', r"config.json .*\$\.vocab_size"),
        ("config.json", b"\xff\xfe", "config.json in .* is damaged"),
        ("tokenizer.json", None, "tokenizer.json is missing .* only fast tokenizers"),
        ("tokenizer.json", b'{"version": "1.0"}', "tokenizer.json .*model"),
        (
            "tokenizer.json",
            b'{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}',
            "tokenizer.json in .* is no tokenizer: .*vocabulary",
        ),
        ("tokenizer_config.json", b"[]", "tokenizer_config.json"),
        ("model.safetensors", None, "model.safetensors is missing .* must be safetensors"),
        ("model.safetensors", b"", "model.safetensors is cut short"),
        ("model.safetensors", b"PK\3\4" * 20, "model.safetensors is cut short or no safetensors"),
        (
            "model.safetensors",
            struct.pack("<Q", 4) + b"nope",
            "model.safetensors has a header that cannot be read",
        ),
    ],
)
def test_what_is_wrong_is_named(llama: Path, file: str, content: bytes | None, says: str) -> None:
    (llama / file).unlink()
    if content is not None:
        (llama / file).write_bytes(content)
    with pytest.raises(DamagedModel, match=says) as failure:
        describe(ME, llama)
    assert failure.value.file == file


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_file_that_is_cut_short_says_how_much(llama: Path, kept: float) -> None:
    weights = llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: math.floor(weights.stat().st_size * kept)])
    with pytest.raises(
        DamagedModel, match=r"model\.safetensors is cut short: its header promises [\d,]+ bytes"
    ):
        describe(ME, llama)


def test_a_file_that_is_too_long(llama: Path) -> None:
    with (llama / "model.safetensors").open("ab") as weights:
        weights.write(b"more")
    with pytest.raises(DamagedModel, match=r"model\.safetensors is longer than it should be"):
        describe(ME, llama)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [(("F32", [3], 8), "says that a is F32"), (("F7", [1], 4), "F7, a type of number that is not known")],
)
def test_a_tensor_that_cannot_be(llama: Path, tensor: tuple[str, list[int], int], says: str) -> None:
    save(llama / "model.safetensors", {"a": tensor})
    with pytest.raises(DamagedModel, match=says):
        describe(ME, llama)


def test_a_missing_part_of_the_weights_is_named(llama: Path) -> None:
    shard(llama)
    (llama / "model-2.safetensors").unlink()
    with pytest.raises(DamagedModel, match=r"model-2\.safetensors is missing"):
        describe(ME, llama)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"d": "model-1.safetensors"}}, "model-1.safetensors lacks the tensor d"),
        ({"weight_map": {"a": "../model-1.safetensors"}}, "outside of the model's folder"),
        ({"weight_map": {}}, "names no weights"),
        ({"weights": {}}, "is no index of weights"),
    ],
)
def test_an_index_that_does_not_fit(llama: Path, index: object, says: str) -> None:
    shard(llama)
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DamagedModel, match=says):
        describe(ME, llama)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_what_is_nested_too_deeply_is_damaged(llama: Path, name: str) -> None:
    (llama / name).write_bytes(b'{"deep":' + b"[" * 100_000)
    with pytest.raises(DamagedModel, match=f"{name} .*damaged"):
        describe(ME, llama)
