"""How long readers waited for the next token after a blow, as the bus saw it."""

import asyncio
from collections import defaultdict
from statistics import median, quantiles

import msgspec

from schemas.chunks import Ended, Frame, Tokens
from schemas.ids import RequestId

_decode = msgspec.msgpack.Decoder(Frame).decode


class Resumes:
    """Listens to all chunks; `struck` is told of each blow."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._blows: list[tuple[float, str]] = []
        self._last: dict[RequestId, tuple[int, float]] = {}
        """Of each request that runs: its attempt, and when its last token came."""
        self.waits: defaultdict[str, list[float]] = defaultdict(list)
        """Seconds from a blow to the next token of each stream that it hit, by kind of blow."""

    def struck(self, kind: str) -> None:
        self._blows.append((self._loop.time(), kind))

    def hear(self, payload: bytes, _subject: str) -> None:
        now = self._loop.time()
        for chunk in _decode(payload):
            if isinstance(chunk, Tokens):
                attempt, at = self._last.get(chunk.request, (chunk.attempt, now))
                if chunk.attempt > attempt:
                    self._resumed(at, now)
                self._last[chunk.request] = (max(attempt, chunk.attempt), now)
            elif isinstance(chunk, Ended):
                self._last.pop(chunk.request, None)

    def _resumed(self, last: float, now: float) -> None:
        """The first blow after its last token is the one that hit it, if it was one of ours."""
        for at, kind in self._blows:
            if last - 0.1 <= at <= now:
                self.waits[kind].append(now - at)
                return
        self.waits["something else"].append(now - last)

    def median(self, kind: str) -> float:
        return median(self.waits[kind])

    def table(self) -> str:
        return "\n".join(f"  {kind:18} {_spread(waits)}" for kind, waits in sorted(self.waits.items()))


def _spread(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return f"{len(seconds):5} streams resumed: median {cuts[49]:5.2f} s, p99 {cuts[98]:5.2f} s, longest {max(seconds):5.2f} s"
