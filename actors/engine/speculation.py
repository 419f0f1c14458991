"""Several tokens in one step of a large model: a small one proposes them, and the large one draws its own for each place.

Each draw has its own random numbers, by its position, and the small model draws with the same ones. What the large model
draws is the answer, with a draft or without: a proposal only saves the step after it where it was right. That pays while
one row decodes; with more, their batch is the better use of a step.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import mlx.core as mx

from actors.engine.answer import Tally
from actors.engine.arrays import evaluate, integers
from actors.engine.batch import Batch
from actors.engine.beam import Beam
from actors.engine.draft import Draft
from actors.engine.failure import REQUEST_ERRORS
from actors.engine.keys import keys_of
from actors.engine.logprobs import describe, read
from actors.engine.row import Row
from actors.engine.sampler import Group, way_of
from actors.engine.speculation_worth import Worth
from schemas.chunks import Chunk, TokenLogprobs

AFFORDABLE = 0.2
"""The draft reads a prompt if that takes at most this share of the time that the answer may take."""
Take = Callable[[Row, int, TokenLogprobs | None], list[Chunk]]


class SpeculationFailed(Exception):
    """The step would not have failed without a draft, perhaps: it is done again without one."""


class Speculation:
    """Asked before each step whether it is `ready`; then a `round` takes the step's place."""

    def __init__(self, draft: Draft, most: int, context: int | None) -> None:
        """`most`: tokens that are proposed at once; `context`: of both models, None: without end."""
        self.tally = Tally()
        self._draft = draft
        self._most = most
        self._context = context
        self.worth = Worth(most)

    def begin(self, *, at_once: bool = False) -> None:
        """Forget what paid; `at_once`: the next step may be a round already."""
        self.worth = Worth(self._most, 0) if at_once else Worth(self._most)

    @property
    def nbytes(self) -> int:
        return self._draft.nbytes

    def ready(self, rows: Sequence[Row | None], step_s: float) -> bool:
        """Whether the next step is to be a round; a step's time is spent on what the draft has not read yet. Raises
        SpeculationFailed."""
        row = self._only(rows)
        if row is None or self.worth.resting:
            return False
        try:
            return self._catch_up(row, step_s)
        except REQUEST_ERRORS as error:
            raise SpeculationFailed(str(error)) from error

    def _catch_up(self, row: Row, step_s: float) -> bool:
        self._draft.follow(row)
        if not self._draft.ready and self._draft.left_s <= AFFORDABLE * step_s * row.remaining:
            self._draft.read(step_s)
        return self._draft.ready

    def note_plain(self, rows: Sequence[Row | None], seconds: float) -> None:
        """A step was no round."""
        if self._only(rows) is not None:
            self.worth.note_plain(seconds)

    def _only(self, rows: Sequence[Row | None]) -> Row | None:
        """The row that could be speculated for."""
        row = rows[0] if len(rows) == 1 else None
        return row if row is not None and self._suits(row) else None

    def _suits(self, row: Row) -> bool:
        """Searches have no draws; a grammar tells what may come next one token at a time."""
        if row.over or isinstance(row, Beam) or row.constraint is not None or not row.answer.task.speculate:
            return False
        if row.answer.task.rolling:  # the draft has read what goes out of view
            return False
        fits = self._context is None or len(row.ids) + self._most < self._context
        return fits and row.remaining > 1

    def round(self, row: Row, batch: Batch, take: Take) -> list[Chunk]:
        """The row's next tokens, up to the first that was not proposed; raises SpeculationFailed."""
        began, count = perf_counter(), self.worth.count
        try:
            proposed, drawn, details = self._draw(row, batch, count)
        except REQUEST_ERRORS as error:
            raise SpeculationFailed(str(error)) from error
        right = next((at for at in range(count) if drawn[at] != proposed[at]), count)
        self._note(row, count, 0)
        chunks: list[Chunk] = []
        taken = 0
        while not row.over and taken <= right:
            self._note(row, 0, int(taken < right))  # before the last token tells what all has cost
            chunks += take(row, drawn[taken], details.get(taken))
            taken += 1
        row.drawn = row.position
        batch.rewind(count + 1 - taken)
        self._draft.settle(count, taken)
        self.worth.note_round(perf_counter() - began, taken)
        return chunks

    def _draw(
        self, row: Row, batch: Batch, count: int
    ) -> tuple[list[int], list[int], dict[int, TokenLogprobs]]:
        """`count` proposed tokens, and those that are drawn at their places and at the one behind them."""
        proposed = self._draft.propose(row, count)
        best, logits = batch.score(mx.concatenate([mx.array(row.ids[-1:]), proposed]))
        drawn = draw_in_turn(row, logits, best)
        details = describe([row] * (count + 1), logits, drawn)
        evaluate(proposed, drawn, details.arrays if details else ())
        return integers(proposed), integers(drawn), read(details)

    def _note(self, row: Row, drafted: int, accepted: int) -> None:
        self.tally.note(drafted, accepted)
        row.answer.tally.note(drafted, accepted)


def draw_in_turn(row: Row, logits: mx.array, best: mx.array) -> mx.array:
    """[places] tokens of [places, vocabulary] logits, each drawn as if those before it were the row's."""
    places, vocabulary = logits.shape
    way = way_of(row)
    if not way.adjusted:
        keys = keys_of([(row.stream, row.position + place) for place in range(places)])
        return Group(way, list(range(places)), [row] * places, vocabulary).draw(logits, best, keys)
    group = Group(way, [0], [row], vocabulary)
    tokens: list[mx.array] = []
    for place in range(places):
        row.drawn = row.position + place
        tokens.append(group.draw(logits[place : place + 1], best[place : place + 1]))
    return mx.concatenate(tokens)
