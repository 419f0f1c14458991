"""A model's folder, checked without an engine, and what it says about the model."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.structs import asdict
from tokenizers import Tokenizer

from actors.downloader.artifact import Artifact, pack
from actors.downloader.configuration import (
    Config,
    GenerationConfig,
    Ids,
    Language,
    SpecialToken,
    TokenizerConfig,
    TokenizerFile,
    read,
    read_optional,
)
from actors.downloader.damaged_model import DamagedModel
from actors.downloader.dimensions import measure
from actors.downloader.weights import Tensor, read_weights, weights_bytes
from schemas.ids import ModelId
from schemas.model import ModelCard

UNKNOWN_CONTEXT = 4096
"""For models that do not say how many tokens they were made for."""
_ENDLESS = 10**9
"""transformers writes `model_max_length` as 10^30 where it means: not known."""
_GROUP_SIZE = 64
"""What MLX packs with unless told otherwise."""
_NOT_FAST = (
    "is missing in {folder}: only fast tokenizers are read; make one with transformers: "
    "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)


class Described(Struct, frozen=True):
    """A whole model: its card, and the artifact that the card names."""

    card: ModelCard
    artifact: Artifact


def describe(model: ModelId, folder: Path) -> Described:
    """Read and check everything but the weights themselves; raises DamagedModel, which names the file."""
    config = read(folder, "config.json", Config)
    if not config.model_type:
        raise DamagedModel("config.json", f"in {folder} lacks `model_type`, the model's architecture")
    if not (folder / "tokenizer.json").exists():
        raise DamagedModel("tokenizer.json", _NOT_FAST.format(folder=folder))
    tokenizer = read(folder, "tokenizer.json", TokenizerFile)
    _require_tokenizer(folder)
    settings = read_optional(folder, "tokenizer_config.json", TokenizerConfig)
    generation = read_optional(folder, "generation_config.json", GenerationConfig)
    tensors = read_weights(folder)
    language = config.text_config or Language()
    artifact = pack(model, folder)
    card = ModelCard(
        architecture=config.model_type,
        parameters=count_parameters(tensors, config),
        weights_bytes=weights_bytes(tensors),
        vocabulary=language.vocab_size or config.vocab_size or tokenizer.size,
        context=language.context or config.context or _tokenizer_context(settings) or UNKNOWN_CONTEXT,
        eos_ids=_eos_ids(generation, config, language, settings, tokenizer),
        artifact=artifact.name,
        **asdict(measure(tensors, read(folder, "config.json", dict[str, object]))),
    )
    return Described(card, artifact)


def _require_tokenizer(folder: Path) -> None:
    """The one way to know that tokenizer.json is one is to make it."""
    try:
        Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DamagedModel("tokenizer.json", f"in {folder} is no tokenizer: {error}") from error


def count_parameters(tensors: Mapping[str, Tensor], config: Config) -> int:
    """Numbers that the model has learnt; packed ones are counted as what they stand for."""
    return sum(_parameters(tensors, name, config) for name in tensors)


def _parameters(tensors: Mapping[str, Tensor], name: str, config: Config) -> int:
    layer, _, part = name.rpartition(".")
    packed, scales = tensors.get(f"{layer}.weight"), tensors.get(f"{layer}.scales")
    if packed is None or scales is None or packed.dtype != "U32":
        return math.prod(tensors[name].shape)
    if part in ("scales", "biases"):
        return 0
    if part == "weight":
        return math.prod(scales.shape) * _group_size(config, layer)
    return math.prod(tensors[name].shape)


def _group_size(config: Config, layer: str) -> int:
    """How many weights of a row share one scale."""
    everywhere = config.quantization or {}
    own = everywhere.get(layer)
    of_layer = cast("dict[str, object]", own) if isinstance(own, dict) else {}
    size = of_layer.get("group_size", everywhere.get("group_size"))
    return size if isinstance(size, int) else _GROUP_SIZE


def _tokenizer_context(settings: TokenizerConfig) -> int | None:
    length = settings.model_max_length
    return int(length) if length is not None and 0 < length < _ENDLESS else None


def _eos_ids(
    generation: GenerationConfig,
    config: Config,
    language: Language,
    settings: TokenizerConfig,
    tokenizer: TokenizerFile,
) -> tuple[int, ...]:
    """Every id that one of the files names as an end, each once."""
    eos = settings.eos_token
    named = tokenizer.id_of(eos.content if isinstance(eos, SpecialToken) else eos) if eos else None
    ids = [
        *_ids(generation.eos_token_id),
        *_ids(config.eos_token_id),
        *_ids(language.eos_token_id),
        *_ids(named),
    ]
    return tuple(dict.fromkeys(ids))


def _ids(value: Ids) -> Iterator[int]:
    yield from [value] if isinstance(value, int) else value or []
