"""Chunks on their way out: a frame for each step and API, sent without waiting; what a lost bus cannot take is dropped."""

import msgspec
import structlog

from actors.runner.open_tasks import OpenTasks
from actors.runner.spans import Spans
from actors.runner.vitals import Vitals
from bus.bus import Bus
from bus.errors import BusError
from schemas.chunks import Chunk, Ended, Failed, Frame, Tokens
from schemas.ids import ApiId

log = structlog.get_logger()

FRAME_CHUNKS = 256
"""Most chunks of one frame: even with 20 log-probabilities a token it is far below what a message may hold."""


class Outbox:
    """Sends each chunk to the owner of its request, and closes what has ended."""

    def __init__(self, bus: Bus, tasks: OpenTasks, vitals: Vitals, spans: Spans) -> None:
        self._bus = bus
        self._tasks = tasks
        self._vitals = vitals
        self._spans = spans
        self._encode = msgspec.msgpack.Encoder().encode
        self._lost = 0

    def send(self, chunks: list[Chunk]) -> None:
        """In order; the bus keeps some megabytes for its return, the owner notices what is missing beyond that."""
        frames: dict[ApiId, Frame] = {}
        find = self._tasks.find
        tokens = 0
        for chunk in chunks:
            open_task = find(chunk.request, chunk.attempt)
            if open_task is None:
                continue  # its owner has moved on to another attempt
            frames.setdefault(open_task.task.api, []).append(chunk)
            kind = type(chunk)
            if kind is Tokens:
                tokens += len(chunk.ids) // 4  # type: ignore[union-attr]  # the kind says so, and this is hot
            elif isinstance(chunk, Ended | Failed):
                self._spans.tell(open_task, chunk)
                self._tasks.close(chunk.request, chunk.attempt)
        for api, frame in frames.items():
            self._post(api, frame)
        self._vitals.sent(tokens)

    def _post(self, api: ApiId, frame: Frame) -> None:
        requests = {chunk.request for chunk in frame}
        subjects = self._bus.subjects
        subject = subjects.out(api, requests.pop()) if len(requests) == 1 else subjects.out_all(api)
        for begin in range(0, len(frame), FRAME_CHUNKS):
            part = frame[begin : begin + FRAME_CHUNKS]
            try:
                self._bus.post(subject, self._encode(part))
            except BusError as failure:
                self._note_lost(len(part), failure)

    def _note_lost(self, count: int, failure: BusError) -> None:
        before, self._lost = self._lost, self._lost + count
        if before.bit_length() < self._lost.bit_length():  # at 1, 2, 4, 8 ...: a flood is no flood of lines
            log.warning("chunks.lost", count=self._lost, reason=str(failure))
