"""Rounds on their way from rank 0 to the others: numbered pieces, none lost, none twice, whatever the bus does meanwhile."""

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog

from bus.bus import Bus
from bus.errors import BusError
from schemas.group import Behind, Piece
from schemas.ids import InstanceId
from schemas.unreadable import UNREADABLE

log = structlog.get_logger()

PIECE_BYTES = 256 * 1024
KEPT_PIECES = 64
"""No rank can be further behind: rank 0 waits for all of them in each step."""
_piece = msgspec.msgpack.Decoder(Piece).decode
_behind = msgspec.json.Decoder(Behind).decode


class RoundsOut:
    """Rank 0's end: sends, keeps the latest, and sends those again when somebody may have missed some."""

    def __init__(self, bus: Bus, instance: InstanceId, attempt: int) -> None:
        self._bus = bus
        self._subject = bus.subjects.group(instance, attempt, "rounds")
        self._behind = bus.subjects.group(instance, attempt, "behind")
        self._kept: deque[Piece] = deque(maxlen=KEPT_PIECES)
        self._number = 0

    def send(self, told: bytes) -> None:
        for begin in range(0, len(told), PIECE_BYTES):
            self._number += 1
            end = begin + PIECE_BYTES
            piece = Piece(self._number, end >= len(told), told[begin:end])
            self._kept.append(piece)
            self._post(piece)

    def _post(self, piece: Piece) -> None:
        with suppress(BusError):  # it is kept, and sent again when the bus is back
            self._bus.post(self._subject, msgspec.msgpack.encode(piece))

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        async with self._bus.listening(self._behind, self._hear):
            yield

    def _hear(self, payload: bytes, subject: str) -> None:
        try:
            number = _behind(payload).number
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
            return
        self.send_again(number)

    def send_again(self, number: int = 0) -> None:
        """From this piece on."""
        for piece in self._kept:
            if piece.number >= number:
                self._post(piece)

    async def watch(self) -> None:
        """What was on its way when the bus was lost may be lost too."""
        while True:
            await _until_back(self._bus)
            self.send_again()


class RoundsIn:
    """Another rank's end: hands on each round once, in order, and asks for what it has missed."""

    def __init__(
        self, bus: Bus, instance: InstanceId, attempt: int, on_round: Callable[[bytes], None]
    ) -> None:
        self._bus = bus
        self._subject = bus.subjects.group(instance, attempt, "rounds")
        self._behind = bus.subjects.group(instance, attempt, "behind")
        self._on_round = on_round
        self._next = 1
        self._pieces: list[bytes] = []

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        async with self._bus.listening(self._subject, self.hear):
            yield

    def hear(self, payload: bytes, subject: str) -> None:
        try:
            piece = _piece(payload)
        except UNREADABLE as garbage:
            self._bus.note_garbage(subject, garbage)
            return
        if piece.number > self._next:
            self._ask()
        elif piece.number == self._next:
            self._take(piece)

    def _take(self, piece: Piece) -> None:
        self._next += 1
        self._pieces.append(piece.data)
        if piece.last:
            told, self._pieces = b"".join(self._pieces), []
            self._on_round(told)

    def _ask(self) -> None:
        log.warning("rounds.missed", number=self._next)
        with suppress(BusError):  # asked again when the bus is back
            self._bus.post(self._behind, msgspec.json.encode(Behind(number=self._next)))

    async def watch(self) -> None:
        """What was sent while this rank had lost the bus is asked for; one of the two is the later to be back."""
        while True:
            await _until_back(self._bus)
            self._ask()


async def _until_back(bus: Bus) -> None:
    back = bus.connection.life_event()
    try:
        await back.wait()
    finally:
        bus.connection.forget(back)
