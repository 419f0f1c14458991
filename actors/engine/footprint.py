"""What a running row takes, told by a cache that the model has written once."""

from typing import Any, cast

import mlx.core as mx
from mlx import utils
from mlx_lm.models.cache import KVCache
from msgspec import Struct

from actors.engine.batch import Cache
from actors.engine.room import UNBOUNDED


class Footprint(Struct, frozen=True):
    """Bytes on this machine: a rank of a group has only its part."""

    token: int
    """Keys and values of one token, in layers that keep all tokens; not windows and states, whose size is fixed."""
    weights: int

    def tokens(self, nbytes: int) -> int:
        """For which keys and values there is room in so many bytes."""
        return min(UNBOUNDED, nbytes // self.token) if self.token else UNBOUNDED


def footprint(model: Any, written: Cache) -> Footprint:
    parts: list[Any] = [part for layer in written for part in getattr(layer, "caches", (layer,))]
    layers: list[Any] = [part for part in parts if type(part) is KVCache]
    arrays: list[mx.array] = [array for layer in layers for array in (layer.keys, layer.values)]
    weights = cast("Any", utils).tree_flatten(model.parameters())
    return Footprint(
        sum(array.nbytes // array.shape[2] for array in arrays), sum(array.nbytes for _, array in weights)
    )
