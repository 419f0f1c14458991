"""Finds the batch that suits a model, by trying: its logits for rows together must be those of each row alone."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from actors.engine.arrays import evaluate
from actors.engine.batch import Batch, Cache
from actors.engine.plain import PlainBatch
from actors.engine.ring import RingBatch
from actors.engine.ring_step import Steps

TRIALS = ((1, 2, 3), (4, 5, 6, 7, 8))
"""Prompts of unequal length."""
STEPS = (9, 10)
TOLERANCE = 1e-3
UNFIT = (ValueError, TypeError, AttributeError, RuntimeError, IndexError, NotImplementedError, AssertionError)

MakeCache = Callable[[], Cache]


def prefilled(model: Any, make_cache: MakeCache, ids: Sequence[int]) -> Cache:
    cache = make_cache()
    model(mx.array([list(ids)]), cache)
    evaluate([layer.state for layer in cache])
    return cache


def all_plain(make_cache: MakeCache, alike: Callable[[bool], bool] = bool) -> bool:
    """Whether all layers have plain key-value caches, those of other ranks too."""
    return alike(all(type(layer) is KVCache for layer in make_cache()))


def fitting(
    model: Any, make_cache: MakeCache, on_cpu: bool, alike: Callable[[bool], bool] = bool
) -> tuple[Batch, bool]:
    """An empty batch, and whether more than one row may be in it; `alike`: whether others have found the same."""
    alone = mx.stack([logits_of(PlainBatch(model), model, make_cache, [ids])[:, 0] for ids in TRIALS], axis=1)
    if all_plain(make_cache, alike) and on_cpu:
        ring = RingBatch(Steps(model), prefilled(model, make_cache, [0]))
        if alike(fits(ring, model, make_cache, alone)):
            return ring, True
    can_merge = alike(
        not any(getattr(layer, "keep", 0) for layer in make_cache())  # mlx-lm's batch forgets it
    )
    return PlainBatch(model), can_merge and alike(fits(PlainBatch(model), model, make_cache, alone))


def fits(batch: Batch, model: Any, make_cache: MakeCache, alone: mx.array) -> bool:
    try:
        together = logits_of(batch, model, make_cache, TRIALS)
        batch.keep([])
        return bool((mx.max(mx.abs(together - alone)) <= TOLERANCE * mx.max(mx.abs(alone))).item())
    except UNFIT:
        return False


def logits_of(batch: Batch, model: Any, make_cache: MakeCache, prompts: Sequence[Sequence[int]]) -> mx.array:
    """[steps, rows, vocabulary] logits of further tokens after these prompts."""
    batch.add([prefilled(model, make_cache, ids) for ids in prompts])
    logits: list[mx.array] = []
    for token in STEPS:
        logits.append(batch.step(mx.array([token] * len(prompts)))[1])
        evaluate(logits[-1])  # one step after the other: ranks of a group must not meet in two at once
    return mx.stack(logits).astype(mx.float32)
