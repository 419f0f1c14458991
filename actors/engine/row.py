"""One sequence that is decoded beside others: its ids so far, and how each token is handed on."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actors.engine.answer import Answer
from actors.engine.keys import stream_of
from schemas.chunks import Chunk, TokenLogprobs, Tokens


class Constraint(Protocol):
    """A grammar on its way through one answer."""

    @property
    def ended(self) -> bool:
        """Nothing can follow."""
        ...

    def mask(self) -> bytes:
        """A bit for each token, the lowest first: whether it may come next."""
        ...

    def commit(self, token: int) -> None: ...

    def fork(self) -> "Constraint":
        """Another one, as far on its way as this one."""
        ...


class Row:
    """Sequence `index` of an answer; the last of its `ids` is not in its cache yet."""

    def __init__(self, answer: Answer, index: int, ids: list[int]) -> None:
        task = answer.task
        self.answer = answer
        self.index = index
        self.ids = ids
        """Prompt and answer so far."""
        self.position = answer.counts[index]
        """Of the next token that is handed on."""
        self.drawn = self.position
        """Of the next token that is drawn: ahead of `position` while one is on its way."""
        self.sampling = task.sampling
        self.stream = stream_of(task.sampling.seed, index)
        self.stop = frozenset(task.stop_ids)
        self.min_tokens = task.min_tokens if task.stop_ids else 0
        self.alternatives = task.logprobs
        self.constraint: Constraint | None = None
        self.allowed: NDArray[np.uint8] = np.zeros(0, np.uint8)
        """What its grammar allows next, as bits."""
        self.suspect = False
        """It was in a step that failed, and has not been in one since that did not."""
        self._max_tokens = task.max_tokens

    @property
    def over(self) -> bool:
        return self.index not in self.answer.open

    @property
    def remaining(self) -> int:
        """Tokens that may still come."""
        return self._max_tokens - self.position

    @property
    def whole(self) -> bool:
        """All of its answer is in view."""
        return len(self.ids) - self.prompt == self.position

    @property
    def fills(self) -> bool:
        """Its next token is the last that there is room for."""
        return False

    @property
    def full(self) -> bool:
        """It is to `roll`, and to be read anew."""
        return False

    def roll(self) -> None:
        """Make room."""

    @property
    def root(self) -> "Row":
        """What begins again when a step has failed."""
        return self

    @property
    def prompt(self) -> int:
        return self.answer.prompt

    def take(self, token: int, details: TokenLogprobs | None) -> list[Chunk]:
        """The chunks for the token that was drawn."""
        self.suspect = False
        answer = self.answer
        if token in self.stop and self.position >= self.min_tokens:
            return answer.end(self.index, "stop")
        constraint = self.constraint
        if constraint is not None:
            constraint.commit(token)
        task, position = answer.task, self.position
        self.ids.append(token)
        self.position = answer.counts[self.index] = position + 1
        logprobs = None if details is None else (details,)
        packed = token.to_bytes(4, "little")
        sent = Tokens(task.request, task.attempt, self.index, position, packed, logprobs)
        if position + 1 >= self._max_tokens:
            return [sent, *answer.end(self.index, "length")]
        if constraint is not None and constraint.ended:
            return [sent, *answer.end(self.index, "stop")]
        return [sent]

    def constrain(self, constraint: Constraint) -> list[Chunk]:
        """From here on; what earlier attempts made is told to the grammar."""
        self.constraint = constraint
        for token in self.ids[self.prompt :]:
            constraint.commit(token)
        return self.answer.end(self.index, "stop") if constraint.ended else []

    def allow(self) -> None:
        """Ask the grammar what may come next."""
        if self.constraint is not None and not self.over:
            self.allowed = np.frombuffer(self.constraint.mask(), np.uint8)

    @property
    def dead_end(self) -> str:
        """Why no token can be drawn."""
        if self.constraint is not None:
            return f"no token is allowed by the grammar at position {self.position}"
        return f"the model's logits at position {self.position} are not finite"


def rows_of(answer: Answer, prompt: list[int], made: list[list[int]]) -> list[Row]:
    """A row for each sequence that is not complete."""
    return [Row(answer, index, prompt + (made[index] if made else [])) for index in sorted(answer.open)]
