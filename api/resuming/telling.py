"""One life of an answer: its first stream, or one that goes on where another broke off."""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from time import time

from api.errors import bad_request
from api.generation import Piece
from api.resuming.birth import Birth, Life, Origin
from api.resuming.event_ids import END, EventIds
from api.resuming.seal import HEADER, Seal, no_event_id
from api.resuming.skip import Skip
from api.resuming.told import Told, told_of
from bus.bus import Bus
from schemas.ids import ApiId, RequestId, new_request_id

CATCHING_UP = "catching up"
"""What a client is told while what it knows is made again."""
KNOWN_LIVES = 8
"""Of more than so many the first are forgotten, and their tokens made again."""


class Telling:
    """What a stream is told by, from its first event to its last."""

    def __init__(
        self, seal: Seal, body: bytes, birth: Birth, told: list[Told], *, over: bool = False
    ) -> None:
        self._seal = seal
        self._body = body
        self._birth = birth
        self._told = told
        self._skip = Skip(told)
        self.over = over
        """The client has all choices, and what they cost."""
        self.resumed = len(birth.lives) > 1

    @property
    def request(self) -> RequestId:
        return self._birth.lives[-1].request(self._birth.answer)

    @property
    def seed(self) -> int:
        return self._birth.seed

    def origin(self, number: int = 0) -> Origin:
        """Where the generation of the prompt `number` comes from."""
        birth = self._birth
        earlier = tuple((life.api, life.request(birth.answer, number)) for life in birth.lives[:-1])
        request = birth.lives[-1].request(birth.answer, number)
        return Origin(request, birth.answer, birth.created, birth.model, earlier)

    def ids(self, model: bytes) -> EventIds:
        """`model`: what the answer is made by."""
        birth = Birth(self._birth.answer, self._birth.created, self.seed, model, self._birth.lives)
        return EventIds(self._seal.stem(birth, self._body), self._told)

    def rest(self, pieces: Sequence[Piece]) -> list[Piece]:
        """What of them the client does not have; raises `ApiError` when they are not what it has been told."""
        return [rest for piece in pieces if (rest := self._skip.rest(piece)) is not None]


class Tellings:
    """Begins the streams of one API actor."""

    def __init__(self, bus: Bus, api: ApiId) -> None:
        self._bus = bus
        self._api = api
        self._seal = Seal(b"")

    async def start(self) -> None:
        """Get what the cluster's API actors share; raises `BusAway`."""
        self._seal = Seal(await self._bus.secrets.get("events"))

    def begin(
        self, headers: Mapping[str, str], stream: bool | None, body: bytes, choices: int, seed: int
    ) -> Telling:
        """A new answer with this seed, or one that goes on where the headers say; raises `ApiError`."""
        event_id = headers.get(HEADER)
        if event_id:
            if not stream:
                raise bad_request(f"The header {HEADER} is only allowed when 'stream' is true.", HEADER)
            return self._resume(event_id, body, choices)
        birth = Birth(new_request_id(), int(time()), seed, b"", (Life(self._api),))
        return Telling(self._seal, body, birth, [Told() for _ in range(choices)])

    def _resume(self, event_id: str, body: bytes, choices: int) -> Telling:
        stem, *marks = event_id.strip().split(":")
        over = marks[-1:] == [END]
        told = [told_of(mark) for mark in (marks[:-1] if over else marks)]
        known = [each for each in told if each is not None]
        birth = self._seal.birth(stem, body)
        if not len(known) == len(told) == choices:
            raise no_event_id()
        lives = (*birth.lives[-KNOWN_LIVES:], Life(self._api, token_hex(2)))
        birth = Birth(birth.answer, birth.created, birth.seed, birth.model, lives)
        return Telling(self._seal, body, birth, known, over=over)
