"""What the ranks of one instance say to each other: who is where, and what all do next."""

from msgspec import Struct

from schemas.instance import Split
from schemas.model import Backend

DIALECT = 1
"""One more whenever ranks of the version before could not follow: result on rank 0 alone, which tells what it draws."""


class Present(Struct, frozen=True, kw_only=True, tag=True):
    """A rank of this attempt is there, and can be reached."""

    rank: int
    host: str
    port: int
    """Free when it was looked at."""
    machine: str
    """Equal for ranks that share a loopback interface."""
    line: int = 0
    """Port where the rank before this one keeps a connection to see whether the link is there; 0: an older version's, without."""
    dialect: int = 0
    """What ranks send each other within a step, and in which order: one of another would wait for ever; 0: an older version's."""


class Piece(Struct, frozen=True, array_like=True):
    """A piece of the stream of rounds that rank 0 sends; its number is one more than that of the piece before."""

    number: int
    last: bool
    """Of its round: a large prompt takes several."""
    data: bytes


class Behind(Struct, frozen=True, kw_only=True, tag=True):
    """A rank that may have missed parts asks rank 0 to send them again, from this number on."""

    number: int


class Seat(Struct, frozen=True, kw_only=True):
    """One rank's place in its group: everything that its engine must know of the others."""

    rank: int
    split: Split
    addresses: tuple[str, ...]
    """`host:port` of each rank."""
    layers: tuple[int, ...] = ()
    """How many layers each rank has, in a pipeline; rank 0 has the last ones."""
    backend: Backend = "ring"

    @property
    def size(self) -> int:
        return len(self.addresses)
