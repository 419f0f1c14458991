"""A prompt on its way into a cache."""

import copy
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from actors.engine.arrays import evaluate
from actors.engine.batch import Cache
from actors.engine.decoding import Joining
from actors.engine.prefix_cache import PrefixCache
from actors.engine.row import Row
from schemas.chunks import Chunk, Prefilled


class Reading:
    """A prompt on its way into a cache, for rows that begin with the same `until` ids."""

    def __init__(self, rows: list[Row], cache: Cache, read: int = 0) -> None:
        self.rows = rows
        self.cache = cache
        self.read = read
        shared = min(len(row.ids) - 1 for row in rows)
        self.until = shared if len(rows) == 1 else min(shared, rows[0].prompt)
        self._began = read
        self._at_once = True
        self.alone = False
        """To be read without others: beside them something failed."""
        self.under_way = False
        """Some of its tokens are in the model."""

    @property
    def untouched(self) -> bool:
        return self.read == 0 and not (self.alone or self.under_way)

    @property
    def left(self) -> int:
        return self.until - self.read

    @property
    def over(self) -> bool:
        self.rows = [row for row in self.rows if not row.over]
        return not self.rows

    def sign_of_life(self) -> list[Chunk]:
        """Unless all was done at once: then the first token is sign enough."""
        task, last = self.rows[0].answer.task, self.rows[0].ids
        if self.left == 0 and self._at_once:
            return []
        return [Prefilled(task.request, task.attempt, self.read, len(last))]

    def go_on(self, model: Any, tokens: int) -> None:
        if not tokens:
            return
        begin = self.read
        for layer in self.cache:
            if type(layer) is KVCache:  # grows once, not by copying all every 256 tokens
                layer.step = -(-self.left // KVCache.step) * KVCache.step
        model(mx.array([self.rows[0].ids[begin : begin + tokens]]), self.cache)
        evaluate([layer.state for layer in self.cache])
        self.note(tokens)

    def note(self, tokens: int) -> None:
        """So many more are read."""
        self._at_once = self.read == self._began and tokens == self.left
        self.read += tokens

    def begin(self, prefixes: PrefixCache) -> None:
        """With what is known of the prompt."""
        cache, known = prefixes.find(self.rows[0].ids[: self.until])
        if cache is not None:
            self.cache, self.read, self._began = cache, known, known
            self.rows[0].answer.note_cached(known)

    def fork(self) -> tuple[list[Joining], list["Reading"]]:
        """Rows that are ready, and those that have something of their own to read: what earlier attempts made."""
        ready = [Joining(row, self.cache) for row in self.rows if len(row.ids) - 1 == self.until]
        others = [row for row in self.rows if len(row.ids) - 1 > self.until]
        return ready, [Reading([row], copy.deepcopy(self.cache), self.until) for row in others]
