"""The likeliest sequences instead of drawn ones: `width` of them are followed at once, as rows of the running batch.

In each step the continuations of all beams by one token are ranked by the sum of their log-probabilities. Those that
complete a sequence and are among the `width` best are kept aside; the `width` best of the others are followed.
The definition is that of Hugging Face's `generate(num_beams=width)`; `docs/api.md` has it for clients.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import NamedTuple

import mlx.core as mx
from msgspec import Struct

from actors.engine.adjustment import Adjustment
from actors.engine.answer import Answer
from actors.engine.arrays import floats, integers
from actors.engine.beam import Beam, Heir
from actors.engine.beam_ranking import Complete, Ranking
from actors.engine.logprobs import Details, describe, read
from actors.engine.row import Constraint
from schemas.chunks import Chunk, FinishReason, Searched, TokenLogprobs, Tokens
from schemas.task import Beams, pack_ids

PART = 8
"""Tokens in one chunk of an answer that is sent whole: with log-probabilities, a frame of them must fit a message."""

Spell = Callable[[int], bytes]
"""What a token adds to a text."""


class Move(NamedTuple):
    """The cache of `source` is to be that of `target` too."""

    source: Beam
    target: Beam


class Weighed(Struct, frozen=True):
    """The best continuations, on their way from the device: `places` are beam * vocabulary + token."""

    search: "BeamSearch"
    places: mx.array
    totals: mx.array
    details: Details | None

    @property
    def arrays(self) -> Sequence[mx.array]:
        return (self.places, self.totals, *(self.details.arrays if self.details else ()))


class BeamSearch:
    """`weigh` the logits of its beams, then `advance`; the rows between them are `beams`, the best first."""

    def __init__(self, answer: Answer, prompt: list[int], beams: Beams, spell: Spell) -> None:
        self.answer = answer
        self._prompt = prompt
        self._beams = beams
        self._spell = spell
        self._stops = [stop.encode() for stop in beams.stops]
        self._longest = max(map(len, self._stops), default=0)
        self._constraint: Constraint | None = None
        self._begin()

    def _begin(self) -> None:
        task = self.answer.task
        self._ranking = Ranking(self._beams, task.max_tokens)
        self.depth = 0
        self.beams = [Beam(self, self.answer, self._prompt)]
        self.beams[0].constraint = self._constraint

    def again(self) -> Beam:
        """From the prompt on; to say it twice changes nothing."""
        if self.depth:
            self._begin()
        return self.beams[0]

    def bind(self, constraint: Constraint) -> list[Chunk]:
        self._constraint = self.beams[0].constraint = constraint
        if not constraint.ended:
            return []
        self._ranking.add(Complete(0.0, [], [], "stop"))
        return self._conclude()

    def weigh(self, logits: mx.array) -> Weighed:
        """Of the beams' [beams, vocabulary] logits, all lazy."""
        vocabulary = logits.shape[-1]
        totals = mx.flatten(self._logprobs(logits) + mx.array([[beam.total] for beam in self.beams]))
        count = min(self._looked_at, totals.size)
        places = mx.argpartition(-totals, count - 1)[:count]
        details = None
        if self.answer.task.logprobs >= 0:
            details = describe([self.beams[0]] * count, logits[places // vocabulary], places % vocabulary)
        return Weighed(self, places, totals[places], details)

    @property
    def _looked_at(self) -> int:
        """Enough for `width` that do not end with an end token."""
        return max(2, 1 + len(self.beams[0].stop)) * self._beams.width

    def _logprobs(self, logits: mx.array) -> mx.array:
        """After biases and penalties; what a grammar or `min_tokens` bars is left out, and the rest as likely as it was."""
        if not any(Adjustment.wanted(beam) for beam in self.beams):
            return _normal(logits.astype(mx.float32))
        adjustment = Adjustment(self.beams, logits.shape[-1])
        return adjustment.barred(_normal(adjustment.weighed(logits)))

    def advance(self, weighed: Weighed, vocabulary: int) -> tuple[list[Chunk], list[Move]]:
        """What the search has come to, and whose caches the beams that are followed now need."""
        self.depth += 1
        followed: list[tuple[Beam, Heir]] = []
        for rank, (total, place, details) in enumerate(_ranked(weighed)):
            beam, token = self.beams[place // vocabulary], place % vocabulary
            ends = token in beam.stop
            heir = self._heir(beam, token, total, details, ends=ends)
            if not ends and not self._completes(heir):
                followed.append((beam, heir))
            elif rank < self._beams.width:
                self._complete(heir, "stop")
            if len(followed) == self._beams.width:
                break
        return self._go_on(followed)

    def _heir(
        self, beam: Beam, token: int, total: float, details: TokenLogprobs | None, *, ends: bool
    ) -> Heir:
        if ends:
            return Heir(beam.ids, total, beam.details, None, b"")
        constraint = beam.constraint
        if constraint is not None:
            constraint = constraint.fork()
            constraint.commit(token)
        tail = beam.tail[-self._longest :] + self._spell(token) if self._stops else b""
        more = [] if details is None else [details]
        return Heir([*beam.ids, token], total, [*beam.details, *more], constraint, tail)

    def _completes(self, heir: Heir) -> bool:
        if heir.constraint is not None and heir.constraint.ended:
            return True
        return any(stop in heir.tail for stop in self._stops)

    def _complete(self, heir: Heir, reason: FinishReason) -> None:
        score = self._ranking.score(heir.total, self.depth)
        self._ranking.add(Complete(score, heir.ids[len(self._prompt) :], heir.details, reason))

    def _go_on(self, followed: list[tuple[Beam, Heir]]) -> tuple[list[Chunk], list[Move]]:
        task = self.answer.task
        if followed and not self._ranking.settled(followed[0][1].total, self.depth):
            if self.depth < task.max_tokens:
                return [Searched(task.request, task.attempt, self.depth)], self._place(followed)
            for _, heir in followed:
                self._complete(heir, "length")
        return self._conclude(), []

    def _place(self, followed: list[tuple[Beam, Heir]]) -> list[Move]:
        """The first heir of a beam stays in its seat, others come to seats that are free, or to new ones."""
        heirs = {id(beam) for beam, _ in followed}
        free = [beam for beam in self.beams if id(beam) not in heirs]
        stay: set[int] = set()
        moves: list[Move] = []
        became: list[tuple[Beam, Heir]] = []
        for beam, heir in followed:
            target = beam
            if id(beam) in stay:
                target = free.pop() if free else Beam(self, self.answer, self._prompt)
                moves.append(Move(beam, target))
            stay.add(id(beam))
            became.append((target, heir))
        for target, heir in became:
            target.become(heir, self.depth)
        for beam in free:
            beam.left = True
        self.beams = [target for target, _ in became]
        return moves

    def _conclude(self) -> list[Chunk]:
        """The best are the answer."""
        answer, n = self.answer, self.answer.task.n
        best = self._ranking.best[:n]
        if len(best) < n:
            return answer.fail("bad_request", f"n is {n}, and only {len(best)} answers are possible")
        answer.counts = [len(complete.ids) for complete in best]
        chunks: list[Chunk] = []
        for index, complete in enumerate(best):
            if index in answer.open:
                chunks += [*self._said(index, complete), *answer.end(index, complete.reason)]
        return chunks

    def _said(self, index: int, complete: Complete) -> list[Chunk]:
        task = self.answer.task
        return [
            Tokens(
                *(task.request, task.attempt, index, at, pack_ids(complete.ids[at : at + PART])),
                logprobs=tuple(complete.details[at : at + PART]) or None,
            )
            for at in range(0, len(complete.ids), PART)
        ]


def _normal(logits: mx.array) -> mx.array:
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _ranked(weighed: Weighed) -> list[tuple[float, int, TokenLogprobs | None]]:
    """(total, place, details), the best first; of equal ones, of the better beam, and the lower token."""
    details = read(weighed.details)
    both = enumerate(zip(floats(weighed.totals), integers(weighed.places), strict=True))
    found = [(total, place, details.get(at)) for at, (total, place) in both if isfinite(total)]
    return sorted(found, key=lambda each: (-each[0], each[1]))
