"""The prefixes that a simulated engine pretends to keep: digests without keys and values."""

from collections import OrderedDict

from actors.engine.changes import Changes
from schemas.prefix import BLOCK, Digest, block_digests


class SimulatedCache:
    """Blocks of prompts, the least recently used forgotten first; of one prompt its end before its beginning."""

    def __init__(self, tokens: int) -> None:
        self.changes = Changes()
        self._blocks = tokens // BLOCK
        self._kept: OrderedDict[Digest, None] = OrderedDict()

    def find(self, prompt: bytes) -> int:
        """How many of the first tokens are known; at least one is left to be read."""
        if not self._kept:
            return 0
        known: list[Digest] = []
        for digest in block_digests(prompt[:-4]):
            if digest not in self._kept:
                break
            known.append(digest)
        self._use(known)
        return BLOCK * len(known)

    def keep(self, ids: bytes) -> None:
        """Remember the whole blocks of these packed ids, as far as there is room."""
        if not self._blocks:
            return
        digests = list(block_digests(ids))[: self._blocks]
        for digest in digests:
            if digest not in self._kept:
                self._kept[digest] = None
                self.changes.add(digest)
        self._use(digests)
        while len(self._kept) > self._blocks:
            self.changes.remove(self._kept.popitem(last=False)[0])

    def _use(self, digests: list[Digest]) -> None:
        for digest in reversed(digests):
            self._kept.move_to_end(digest)

    def clear(self) -> None:
        for digest in self._kept:
            self.changes.remove(digest)
        self._kept.clear()
