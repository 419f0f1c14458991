"""What placement needs to know of a model: how many bytes each layer has, and how wide it is."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import cast

from msgspec import Struct

from actors.downloader.weights import Tensor

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_ELSEWHERE = re.compile(r"vision|visual|audio|image|mtp")
"""Parts that have layers of their own."""
_EXPERTS = re.compile(r"\.(?:experts|switch_mlp)\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|output)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|tok_embeddings|word_embeddings|embedding)\.")
HALF_BYTES, FULL_BYTES = 2, 4


class Dimensions(Struct, frozen=True, kw_only=True):
    """Fields of a `ModelCard`, which says what they mean."""

    layer_bytes: tuple[int, ...]
    outer_bytes: int
    head_bytes: int
    read_share: float
    hidden: int
    heads: int
    kv_heads: int
    cache_bytes: int


def measure(tensors: Mapping[str, Tensor], config: Mapping[str, object]) -> Dimensions:
    """From the names and sizes of the weights and what config.json says; what it does not say is 0."""
    sizes = {name: tensor.data_offsets[1] - tensor.data_offsets[0] for name, tensor in tensors.items()}
    layers = _layers(sizes)
    said = _Said(config)
    return Dimensions(
        layer_bytes=layers,
        outer_bytes=sum(sizes.values()) - sum(layers),
        head_bytes=_head_bytes(sizes),
        read_share=_read_share(sizes, sum(layers), said),
        hidden=said.number("hidden_size", "n_embd", "d_model", "dim"),
        heads=said.number("num_attention_heads", "n_head", "n_heads"),
        kv_heads=said.number("num_key_value_heads", "num_attention_heads", "n_head", "n_heads"),
        cache_bytes=_cache_numbers(said) * _number_bytes(tensors),
    )


class _Said:
    """The numbers of a config.json; those of its language part count first."""

    def __init__(self, config: Mapping[str, object]) -> None:
        language = config.get("text_config")
        self._all = {**config, **cast("dict[str, object]", language if isinstance(language, dict) else {})}

    def number(self, *names: str) -> int:
        """The first of these names that has a whole number; 0 when none has."""
        found = (self._all.get(name) for name in names)
        return next((value for value in found if isinstance(value, int) and value > 0), 0)


def _layers(sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Bytes of each layer; empty unless they are numbered from 0 on."""
    counted: Counter[int] = Counter()
    for name, size in sizes.items():
        number = _layer_of(name)
        if number is not None:
            counted[number] += size
    return (
        tuple(counted[number] for number in sorted(counted))
        if set(counted) == set(range(len(counted)))
        else ()
    )


def _layer_of(name: str) -> int | None:
    found = None if _ELSEWHERE.search(name) else _LAYER.search(name)
    return int(found[1]) if found else None


def _head_bytes(sizes: Mapping[str, int]) -> int:
    """The head's, or the embedding's where one serves as the other."""
    outer = {
        name: size for name, size in sizes.items() if _layer_of(name) is None and not _ELSEWHERE.search(name)
    }
    head = sum(size for name, size in outer.items() if _HEAD.search(name))
    return head or sum(size for name, size in outer.items() if _EMBEDDING.search(name))


def _read_share(sizes: Mapping[str, int], layers: int, said: _Said) -> float:
    """Each token is sent to some experts and goes through all of the rest."""
    experts = said.number("num_experts", "num_local_experts", "n_routed_experts")
    asked = said.number("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
    if not (layers and experts and 0 < asked < experts):
        return 1.0
    routed = sum(
        size for name, size in sizes.items() if _EXPERTS.search(name) and _layer_of(name) is not None
    )
    return (layers - routed * (1 - asked / experts)) / layers


def _cache_numbers(said: _Said) -> int:
    """Numbers that one token leaves behind in one layer: keys and values, or what both are made from."""
    latent = said.number("kv_lora_rank")
    if latent:
        return latent + said.number("qk_rope_head_dim")
    heads = said.number("num_attention_heads", "n_head", "n_heads")
    width = said.number("head_dim") or said.number("hidden_size", "n_embd", "d_model", "dim") // max(1, heads)
    return 2 * width * said.number("num_key_value_heads", "num_attention_heads", "n_head", "n_heads")


def _number_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The cache has the type that the model computes in: that of its floats."""
    return FULL_BYTES if any(tensor.dtype == "F32" for tensor in tensors.values()) else HALF_BYTES
