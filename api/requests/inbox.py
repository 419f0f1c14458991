"""Frames of chunks that come in for this API's requests: read, checked, and handed to whose they are."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog

from api.accounts.accounts import Accounts
from api.requests.request import InFlight
from api.requests.withdrawals import Withdrawals
from schemas.chunks import Chunk, Failed, Frame, Started
from schemas.ids import RequestId
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

_decode = msgspec.msgpack.Decoder(Frame).decode
_decode_chunk = msgspec.msgpack.Decoder(Chunk).decode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Inbox:
    """`on_started`, `on_failed` and `on_gap` are told of what concerns more than the request's own tokens."""

    def __init__(
        self,
        own: Mapping[RequestId, InFlight],
        accounts: Accounts,
        withdrawals: Withdrawals,
        *,
        on_started: Callable[[InFlight, Started], None],
        on_failed: Callable[[InFlight, Failed], None],
        on_gap: Callable[[InFlight], None],
    ) -> None:
        self._own = own
        self._accounts = accounts
        self._withdrawals = withdrawals
        self._on_started = on_started
        self._on_failed = on_failed
        self._on_gap = on_gap

    def take(self, payload: bytes, subject: str, *, again: bool = False) -> None:
        """One frame; `again`: out of the stream that keeps them, where what is over by now is no news."""
        for chunk in self._read(payload, subject):
            request = self._own.get(chunk.request)
            if request is not None and chunk.attempt == request.current.number and not request.over:
                self._hand_over(request, chunk, subject)
            elif not again and isinstance(chunk, Started):
                self._disown(chunk, request)

    def _read(self, payload: bytes, subject: str) -> Frame:
        try:
            return _decode(payload)
        except UNREADABLE as unreadable:
            self._note_garbage(subject, unreadable)
            return readable(payload)

    def _hand_over(self, request: InFlight, chunk: Chunk, subject: str) -> None:
        try:
            request.take(chunk)
        except ValueError as senseless:
            self._note_garbage(subject, senseless)
            return
        if request.gap:
            self._on_gap(request)
        if isinstance(chunk, Started):
            self._on_started(request, chunk)
        elif isinstance(chunk, Failed):
            self._on_failed(request, chunk)

    def _disown(self, begun: Started, request: InFlight | None) -> None:
        """Late chunks are harmless; only work that begins for nobody is stopped."""
        if request is None or request.over:
            self._withdrawals.send(begun.request)
        elif begun.attempt < request.attempt:
            self._withdrawals.send(begun.request, begun.attempt)

    def _note_garbage(self, subject: str, reason: Exception) -> None:
        self._accounts.garbage += 1
        if self._accounts.garbage == 1:
            log.warning("chunk.garbage", subject=subject, reason=str(reason))


def readable(payload: bytes) -> Frame:
    """Its chunks: of a damaged frame, or of a newer runner's, those that can be read."""
    with suppress(*UNREADABLE):
        return _decode(payload)
    frame: Frame = []
    with suppress(*UNREADABLE):
        for raw in _split(payload):
            with suppress(*UNREADABLE):
                frame.append(_decode_chunk(raw))
    return frame
