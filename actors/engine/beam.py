"""One of the sequences that a beam search follows: a row that becomes, token by token, whichever is worth it."""

from typing import TYPE_CHECKING

from msgspec import Struct

from actors.engine.answer import Answer
from actors.engine.row import Constraint, Row
from schemas.chunks import Chunk, TokenLogprobs

if TYPE_CHECKING:
    from actors.engine.beam_search import BeamSearch


class Heir(Struct, frozen=True):
    """What a beam may become: some beam's sequence and one token more."""

    ids: list[int]
    total: float
    details: list[TokenLogprobs]
    constraint: Constraint | None
    tail: bytes
    """The end of its text, as long as a stop string."""


class Beam(Row):
    """Its seat stays; the sequence in it does not."""

    def __init__(self, search: "BeamSearch", answer: Answer, prompt: list[int]) -> None:
        super().__init__(answer, 0, prompt)
        self.search = search
        self.position = self.drawn = 0
        self.total = 0.0
        """Sum of the log-probabilities of its tokens."""
        self.details: list[TokenLogprobs] = []
        self.tail = b""
        self.left = False
        """Nothing is followed in its seat any more."""

    @property
    def over(self) -> bool:
        return self.left or self.answer.over

    @property
    def root(self) -> Row:
        return self.search.again()

    def constrain(self, constraint: Constraint) -> list[Chunk]:
        return self.search.bind(constraint)

    def take(self, token: int, details: TokenLogprobs | None) -> list[Chunk]:
        """The search decides what comes next."""
        del token, details
        self.suspect = False
        return []

    def become(self, heir: Heir, position: int) -> None:
        self.ids, self.total, self.details = heir.ids, heir.total, heir.details
        self.constraint, self.tail = heir.constraint, heir.tail
        self.position = self.drawn = position
