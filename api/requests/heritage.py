"""What earlier requests made of an answer that another one goes on with: read from the stream that keeps their chunks.

What is not kept any more is made again: seed and position alone decide which token comes next.
"""

from collections.abc import Sequence as Several
from contextlib import suppress
from functools import partial

import structlog

from api.requests.readings import Readings
from api.requests.request import InFlight
from api.requests.sequence import Sequence
from api.requests.withdrawals import Withdrawals
from bus.bus import Bus
from schemas.chunks import Chunk, Ended, SequenceEnded, Tokens
from schemas.ids import ApiId, RequestId

log = structlog.get_logger()


class Heritage:
    """Ends who still works on the answer, and takes over what has come of it."""

    def __init__(self, bus: Bus, withdrawals: Withdrawals) -> None:
        self._readings = Readings(bus)
        self._withdrawals = withdrawals

    async def claim(self, request: InFlight, earlier: Several[tuple[ApiId, RequestId]]) -> None:
        """`earlier`: who had the answer, under which request, the last one last. Never raises."""
        will = Will(request.sequences)
        self._withdrawals.send(earlier[-1][1])
        for number, (api, name) in enumerate(earlier):
            await self._readings.tell(api, name, partial(will.take, life=number))
        log.info("heritage.claimed", request=request.id, of=earlier[-1][1], tokens=request.received)
        request.inherit(will.ended)


class Will:
    """Of several attempts the latest counts, from where it went on: as their owner took them."""

    def __init__(self, sequences: Several[Sequence]) -> None:
        self.ended: Ended | None = None
        self._sequences = sequences
        self._latest = [(0, 0)] * len(sequences)

    def take(self, chunk: Chunk, life: int) -> None:
        """The next chunk of the request number `life`."""
        match chunk:
            case Tokens():
                self._take_tokens(chunk, (life, chunk.attempt))
            case SequenceEnded(index=index, reason="stop" | "length", count=count) if self._has(index):
                sequence = self._sequences[index]
                if count in (-1, sequence.received):
                    sequence.reason = chunk.reason
            case Ended():
                self.ended = chunk
            case _:
                pass

    def _has(self, index: int) -> bool:
        return 0 <= index < len(self._sequences)

    def _take_tokens(self, chunk: Tokens, attempt: tuple[int, int]) -> None:
        if not self._has(chunk.index) or attempt < self._latest[chunk.index]:
            return
        sequence = self._sequences[chunk.index]
        if attempt > self._latest[chunk.index]:
            self._latest[chunk.index] = attempt
            sequence.rewind(chunk.offset)
        with suppress(ValueError):
            sequence.take(chunk)
