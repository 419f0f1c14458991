"""What all events of one answer have in common: what it takes to make it again, and who has worked on it."""

import hashlib

import msgspec
from msgspec import Struct

from api.catalogue import Described
from schemas.ids import ApiId, RequestId
from schemas.version import version_of


class Life(Struct, frozen=True, array_like=True):
    """One connection's share of an answer: which API actor had it, under which request."""

    api: ApiId
    again: str = ""
    """What the request's name has behind the answer's; empty for the first one."""

    def request(self, answer: RequestId, number: int = 0) -> RequestId:
        """Of the prompt `number`: the first has the name of the life itself."""
        name = f"{answer}-r{self.again}" if self.again else answer
        return RequestId(f"{name}-{number}" if number else name)


class Birth(Struct, frozen=True, array_like=True):
    """Together with the body, the text is a function of `seed` and `model` alone."""

    answer: RequestId
    """The answer's `id` names it, however many requests it takes."""
    created: int
    """Unix time in seconds."""
    seed: int
    """64 bits; the body's, or a random one."""
    model: bytes
    """See `likeness`."""
    lives: tuple[Life, ...]
    """The last one sent the event; before it those that it took over from, as far as they are known."""


class Origin(Struct, frozen=True):
    """Where one generation comes from: a request of its own, perhaps for an answer that was begun before."""

    request: RequestId
    answer: RequestId
    created: int
    model: bytes = b""
    """What the model must be like; empty: nothing is known of it."""
    earlier: tuple[tuple[ApiId, RequestId], ...] = ()
    """Who had the answer before, under which request."""


def likeness(model: Described) -> bytes:
    """Changes when the model does, as far as its card and its source tell: its files, its sizes, its context."""
    told = (model.card, model.context, version_of(model.spec))
    return hashlib.sha256(msgspec.json.encode(told)).digest()[:6]
