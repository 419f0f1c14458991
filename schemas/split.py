"""How an instance may be split over nodes, by the architecture of its model: what runners can form a group for."""

from schemas.instance import Split

_BOTH: frozenset[Split] = frozenset({"pipeline", "tensor"})
_PIPELINE: frozenset[Split] = frozenset({"pipeline"})
_WHOLE: frozenset[Split] = frozenset({"whole"})
_SPLITTABLE: dict[str, frozenset[Split]] = {
    "deepseek_v3": _BOTH,
    "gpt_oss": _BOTH,
    "llama": _BOTH,
    "ministral3": _BOTH,
    "mistral": _BOTH,
    "olmo2": _PIPELINE,
    "phi3": _PIPELINE,
    "qwen2": _BOTH,
    "qwen3": _BOTH,
    "qwen3_moe": _BOTH,
    "qwen3_next": _PIPELINE,
}
"""`model_type` of a config.json -> the splits that were tried and found equal to one process."""


def splittable(architecture: str) -> frozenset[Split]:
    """The splits that runners can serve `architecture` in; `whole` always."""
    return _SPLITTABLE.get(architecture, _WHOLE) | _WHOLE


def tensor_fits(heads: int, kv_heads: int, ranks: int) -> bool:
    """Whether so many ranks can share the heads of each layer: all of them get as many."""
    return heads % ranks == 0 and kv_heads % ranks == 0
