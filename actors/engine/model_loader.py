"""Brings a model folder into MLX: checked before, sentences instead of tracebacks, float32 on the CPU."""

from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx_lm import utils as mlx_lm
from msgspec import Struct

from actors.downloader.configuration import Config, read
from actors.downloader.damaged_model import DamagedModel
from actors.downloader.weights import read_weights
from actors.engine.arrays import evaluate
from actors.engine.group import Group
from actors.engine.pairs import share_among_pairs
from actors.engine.pipeline import share_layers
from actors.engine.port import EngineLoadError
from actors.engine.quick_sigmoid import use_quick_sigmoid

UNFIT = (ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What mlx-lm raises for configurations and weights that it cannot make a model of."""
EXHAUSTED = (MemoryError, OSError, RuntimeError)


class LoadedModel(Struct, frozen=True):
    """A model in memory."""

    model: Any
    """Callable: ([batch, length] ids, cache) -> [batch, length, vocabulary] logits."""
    vocabulary: int
    context: int | None
    on_cpu: bool


def load_model(folder: Path, group: Group | None = None) -> LoadedModel:
    """The model in `folder`, or a rank's part of it; raises EngineLoadError, which names the file."""
    config = check_files(folder)
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    try:
        model, vocabulary = _load(folder, on_cpu, group)
    except UNFIT as error:
        reason = f"the weights in {folder} do not fit config.json: {sentence(error)}"
        raise EngineLoadError(reason, retryable=False) from error
    except EXHAUSTED as error:
        reason = f"the weights in {folder} cannot be loaded: {sentence(error)}"
        raise EngineLoadError(reason, retryable=True) from error
    context = (config.text_config and config.text_config.context) or config.context
    return LoadedModel(model, vocabulary, context, on_cpu)


def _load(folder: Path, on_cpu: bool, group: Group | None) -> tuple[Any, int]:
    """The model, and how many logits it gives."""
    model: Any = cast("Any", mlx_lm).load_model(folder, lazy=True)[0]
    if group is not None:
        _share(model, group)
    if on_cpu:  # half precision is slower there, and 4-bit weights with it come out wrong
        model.set_dtype(mx.float32)
        use_quick_sigmoid()
    evaluate(model.parameters())
    logits = model(mx.array([[0]]))
    return model, logits.shape[-1]


def _share(model: Any, group: Group) -> None:
    """Lazily loaded weights that this rank does not need are never read."""
    if group.seat.split == "pipeline":
        share_layers(model, group)
    elif not hasattr(model, "shard"):
        raise EngineLoadError("mlx-lm cannot share out the heads of this architecture", retryable=False)
    elif group.seat.split == "hybrid":
        share_among_pairs(model, group)
    else:
        model.shard(group.ring)


def check_files(folder: Path) -> Config:
    """config.json, once it and the weights' headers were found whole."""
    try:
        read_weights(folder)
        return read(folder, "config.json", Config)
    except DamagedModel as damage:
        reason = str(damage) if str(folder) in str(damage) else f"{damage} (in {folder})"
        raise EngineLoadError(reason, retryable=False) from damage


def sentence(error: BaseException) -> str:
    """The first line of what an exception says, not without bounds."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    said = f"{said} is missing" if isinstance(error, KeyError) else said
    return said if len(said) <= 300 else said[:297] + "..."
