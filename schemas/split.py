"""How an instance may be split over nodes, by the architecture of its model: what runners can form a group for."""

from typing import get_args

from schemas.instance import Split

SPLITS: tuple[str, ...] = get_args(Split)
PAIR = 2
"""Ranks that a stage of a hybrid has."""
_ALL: frozenset[Split] = frozenset({"pipeline", "tensor", "hybrid"})
_PIPELINE: frozenset[Split] = frozenset({"pipeline"})
_WHOLE: frozenset[Split] = frozenset({"whole"})
_SPLITTABLE: dict[str, frozenset[Split]] = {
    "deepseek_v3": _ALL,
    "gpt_oss": _ALL,
    "llama": _ALL,
    "ministral3": _ALL,
    "mistral": _ALL,
    "olmo2": _PIPELINE,
    "phi3": _PIPELINE,
    "qwen2": _ALL,
    "qwen3": _ALL,
    "qwen3_moe": _ALL,
    "qwen3_next": _PIPELINE,
}
"""`model_type` of a config.json -> the splits that were tried and found equal to one process."""


def splittable(architecture: str) -> frozenset[Split]:
    """The splits that runners can serve `architecture` in; `whole` always."""
    return _SPLITTABLE.get(architecture, _WHOLE) | _WHOLE


def tensor_fits(heads: int, kv_heads: int, ranks: int) -> bool:
    """Whether so many ranks can share the heads of each layer: all of them get as many."""
    return heads % ranks == 0 and kv_heads % ranks == 0


def sharers(split: Split, ranks: int) -> int:
    """How many of an instance's ranks have a part of the same layer, each an equal one."""
    return ranks if split == "tensor" else PAIR if split == "hybrid" else 1
