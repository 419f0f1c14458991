"""The part of an API that runners see."""

import asyncio
from collections import defaultdict
from contextlib import suppress

import msgspec

from bus.bus import Bus
from bus.errors import NoAnswer
from schemas.chunks import Chunk, Ended, Failed, Frame
from schemas.events import RunnerReported
from schemas.ids import InstanceId
from schemas.instance import RunnerStatus
from schemas.task import Accepted, Cancel, OfferAnswer, Task

INSTANCE = InstanceId("i1")
TIMEOUT_S = 60.0


class Client:
    """Sends tasks and cancels; keeps chunks by request."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.chunks: defaultdict[str, list[Chunk]] = defaultdict(list)
        self._decode = msgspec.msgpack.Decoder(Frame).decode
        self._news = asyncio.Event()

    def hear(self, payload: bytes, subject: str) -> None:
        frame = self._decode(payload)
        requests = {chunk.request for chunk in frame}
        assert subject == f"troupe.out.a1.{requests.pop() if len(requests) == 1 else 'all'}"
        for chunk in frame:
            self.chunks[chunk.request].append(chunk)
        self._news.set()

    async def offer(self, task: Task) -> OfferAnswer:
        return await self.bus.offer(INSTANCE, task)

    async def until_accepted(self, task: Task) -> None:
        """Offered again while nobody answers in time, as on a busy machine; the same attempt is not run twice."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with suppress(NoAnswer):
                    answer = await self.offer(task)
                    assert isinstance(answer, Accepted), answer
                    return

    async def cancel(self, task: Task, index: int | None = None) -> None:
        cancel = Cancel(request=task.request, index=index)
        await self.bus.send(self.bus.subjects.cancel(task.request), cancel)

    async def until_chunks(self, request: str, count: int) -> list[Chunk]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.chunks[request]) < count:
                self._news.clear()
                await self._news.wait()
        return self.chunks[request]

    async def until_ended(self, request: str, times: int = 1) -> list[Chunk]:
        async with asyncio.timeout(TIMEOUT_S):
            while sum(isinstance(chunk, Ended | Failed) for chunk in self.chunks[request]) < times:
                self._news.clear()
                await self._news.wait()
        return self.chunks[request]

    async def until_status(self, status: RunnerStatus) -> list[RunnerReported]:
        """What the runner has reported up to this status."""
        reports: list[RunnerReported] = []
        async with asyncio.timeout(TIMEOUT_S):
            async for recorded in self.bus.log.follow():
                if isinstance(recorded.event, RunnerReported):
                    reports.append(recorded.event)
                    if recorded.event.status == status:
                        return reports
        raise AssertionError("the log has no end")
