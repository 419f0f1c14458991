"""Keys and values of prompts and conversations that are over: who begins with the same tokens need not compute them.

Exact up to floating point: a token's keys and values are the same numbers whichever request computed them, apart
from the last bits, which depend on how many tokens were computed at once.
"""

from collections import OrderedDict
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache
from msgspec import Struct

from actors.engine.arrays import evaluate
from actors.engine.batch import Cache
from actors.engine.changes import Changes
from schemas.prefix import BLOCK, block_digests
from schemas.task import pack_ids

WASTE = 1.25
"""Arrays with more room than this beyond what is in them are copied before they are kept."""


class Prefix(Struct, frozen=True, eq=False):
    """What is known of these ids: [1, heads, at least len(ids), width] keys and values of each layer."""

    ids: list[int]
    digests: tuple[bytes, ...]
    layers: list[tuple[mx.array, mx.array]]

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def cache(self, length: int) -> Cache:
        """The first `length` tokens, in arrays of their own, so that nobody writes into these."""
        made: list[KVCache] = []
        for keys, values in self.layers:
            layer = KVCache()
            layer.keys, layer.values, layer.offset = keys[:, :, :length], values[:, :, :length], length
            made.append(layer)
        return made


class PrefixCache:
    """The least recently used are forgotten when all are larger than `max_bytes`; for plain key-value caches alone."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._prefixes: OrderedDict[int, Prefix] = OrderedDict()
        """By identity; the latest used last."""
        self._by_digest: dict[bytes, list[Prefix]] = {}
        self.changes = Changes()

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, ids: list[int]) -> tuple[Cache | None, int]:
        """The longest beginning of `ids` that is known, and its length; nothing below one block."""
        if not self._prefixes:
            return None, 0
        best: Prefix | None = None
        for digest in block_digests(pack_ids(ids)):
            known = self._by_digest.get(digest)
            if not known:
                break
            best = known[-1]
        length = 0 if best is None else common(best.ids, ids)
        if best is None or length < BLOCK:
            return None, 0
        self._prefixes.move_to_end(id(best))
        return best.cache(length), length

    def keep(self, ids: list[int], cache: Cache) -> None:
        """Remember these ids, whose keys and values are in `cache`, unless they are known already."""
        digests = tuple(block_digests(pack_ids(ids)))
        if not digests or not self.max_bytes:
            return None
        for known in self._by_digest.get(digests[-1], ()):
            if common(known.ids, ids) == len(ids):
                return self._prefixes.move_to_end(id(known))
        prefix = Prefix(ids, digests, [_trimmed(layer, len(ids)) for layer in cache])
        if prefix.nbytes > self.max_bytes:
            return None
        for shorter in list(self._by_digest.get(digests[0], ())):
            if common(shorter.ids, ids) == len(shorter.ids):
                self._forget(shorter)
        self._remember(prefix)
        while self.nbytes > self.max_bytes:
            self._forget(next(iter(self._prefixes.values())))

    def _remember(self, prefix: Prefix) -> None:
        self._prefixes[id(prefix)] = prefix
        self.nbytes += prefix.nbytes
        for digest in prefix.digests:
            if digest not in self._by_digest:
                self._by_digest[digest] = []
                self.changes.add(digest)
            self._by_digest[digest].append(prefix)

    def _forget(self, prefix: Prefix) -> None:
        del self._prefixes[id(prefix)]
        self.nbytes -= prefix.nbytes
        for digest in prefix.digests:
            known = self._by_digest[digest]
            known.remove(prefix)
            if not known:
                del self._by_digest[digest]
                self.changes.remove(digest)

    def clear(self) -> None:
        for digest in self._by_digest:
            self.changes.remove(digest)
        self._prefixes.clear()
        self._by_digest.clear()
        self.nbytes = 0


def common(one: list[int], other: list[int]) -> int:
    """Tokens that both begin with."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(at for at in range(length) if one[at] != other[at])


def _trimmed(layer: Any, length: int) -> tuple[mx.array, mx.array]:
    """As they are, or a copy where they have much more room; never the arrays that somebody writes on."""
    keys, values = layer.keys, layer.values
    if keys.shape[2] > WASTE * length:
        keys, values = mx.contiguous(keys[:, :, :length]), mx.contiguous(values[:, :, :length])
        evaluate(keys, values)
        return keys, values
    return keys[:, :, :], values[:, :, :]
