"""The rows of one batch: one step gives each of them a token; between steps they join and leave."""

from collections.abc import Sequence
from time import perf_counter

import mlx.core as mx
from msgspec import Struct
from msgspec.structs import replace

from actors.engine.arrays import evaluate, integers, start
from actors.engine.batch import Batch, Cache
from actors.engine.beam import Beam
from actors.engine.beam_search import BeamSearch, Move, Weighed
from actors.engine.failure import REQUEST_ERRORS, failure
from actors.engine.group import Group
from actors.engine.logprobs import Details, describe, read
from actors.engine.prefix_cache import PrefixCache
from actors.engine.row import Row
from actors.engine.sampler import Sampler
from actors.engine.speculation import Speculation
from schemas.chunks import Chunk, TokenLogprobs


class Joining(Struct, frozen=True):
    """A row whose prompt is read."""

    row: Row
    cache: Cache


class Drawn(Struct, frozen=True):
    """Tokens that are on their way from the device, for the rows in these seats."""

    rows: list[Row | None]
    tokens: mx.array
    details: Details | None
    weighed: list[Weighed]
    """What has come of the searches among them."""


LATE = 3
"""A step counts as so many usual ones at most."""


class Decoding:
    """`step` until nobody is left; `ahead`: the next step is begun before the tokens of this one are read."""

    def __init__(
        self,
        batch: Batch,
        vocabulary: int,
        ahead: bool,
        prefixes: PrefixCache | None = None,
        group: Group | None = None,
    ) -> None:
        """`prefixes`: where the conversations of rows that leave are kept; `group`: of which rank 0 decides, as another
        machine's last bits may be others."""
        self._batch = batch
        self._vocabulary = vocabulary
        self._ahead = ahead
        self._prefixes = prefixes
        self._group = group
        self._rows: list[Row | None] = []
        self._sampler: Sampler | None = None
        self._single: list[Row | None] = []
        """The rows that are drawn for, by their seats; not those of searches."""
        self._searches: list[BeamSearch] = []
        self._drawn: Drawn | None = None
        self._soiled = False
        self._out: list[Chunk] = []
        self.step_s = 0.0
        """How long a step takes, of late."""
        self.full: list[Row] = []
        """Those that have left, and are to be read anew."""
        self.speculation: Speculation | None = None

    @property
    def rows(self) -> list[Row]:
        return [row for row in self._rows if row is not None]

    @property
    def occupied(self) -> bool:
        return bool(self._rows)

    @property
    def nbytes(self) -> int:
        return self._batch.nbytes

    def step(self, joining: list[Joining], more_to_come: bool) -> list[Chunk]:
        """One token for everybody; `more_to_come`: soon others join, for whom seats may be kept. `joining` is empty then: while
        somebody else knows of a row's cache, its arrays are copied when they are first written."""
        self._out = chunks = list[Chunk]()
        if (joining or any(row is not None and row.over for row in self._rows)) and self._drawn:
            chunks += self._read(go_on=False)
        self._dismiss(more_to_come or bool(joining))
        self._seat(joining)
        if not any(self._rows):
            return chunks
        speculation = self.speculation
        if speculation is not None and speculation.ready(self._rows, self.step_s):
            self._speculate(speculation)
            return chunks
        began = perf_counter()
        if self._drawn is None:
            chunks += self._draw(mx.array([row.ids[-1] if row else 0 for row in self._rows]))
        chunks += self._read(go_on=self._ahead)
        self._note(perf_counter() - began)
        if speculation is not None:
            speculation.note_plain(self._rows, perf_counter() - began)
        return chunks

    def _note(self, seconds: float) -> None:
        """What is late once is late for somebody else's doing, and must not count as how long steps take."""
        known = self.step_s or seconds
        self.step_s = 0.8 * known + 0.2 * min(seconds, LATE * known)

    def _speculate(self, speculation: Speculation) -> None:
        """Several tokens for the only row; a round that fails leaves those that were drawn before it."""
        if self._drawn is not None:
            self._out += self._read(go_on=False)
        row = self.rows[0]
        if not row.over:
            self._sampler = None  # what it has counted is not all that comes now
            began = perf_counter()
            self._out += speculation.round(row, self._batch, self._take)
            self._note(perf_counter() - began)

    def _dismiss(self, keep_seats: bool) -> None:
        """Rows that are over or full leave; their seats are kept for others, unless most are empty, or closed."""
        for seat, row in enumerate(self._rows):
            if row is None or not (row.over or row.full):
                continue
            if row.over:
                self._keep(row, seat)
            else:
                self.full.append(row)
            self._rows[seat] = None
            self._batch.leave(seat)
            self._sampler = None
        keep_seats = keep_seats and self._batch.reseats and not self._soiled
        if None in self._rows and not (keep_seats and 2 * len(self.rows) >= len(self._rows)):
            kept = [seat for seat, row in enumerate(self._rows) if row is not None]
            self._batch.keep(kept)
            self._rows = [self._rows[seat] for seat in kept]
            self._sampler, self._soiled = None, False

    def _keep(self, row: Row, seat: int) -> None:
        """Its conversation, for the next turn; of several answers to one prompt the first."""
        if self._prefixes is None or not self._prefixes.max_bytes or row.answer.failed or row.index:
            return
        if isinstance(row, Beam) or not row.whole:  # nobody goes on from there; its prompt is kept
            return
        cache = self._batch.extract(seat)
        self._prefixes.keep(row.ids[: cache[0].offset], cache)

    def _seat(self, joining: list[Joining]) -> None:
        if not joining:
            return
        self._sampler = None
        free = [seat for seat, row in enumerate(self._rows) if row is None]
        for seat in free[: len(joining)]:
            new = joining.pop()
            self._rows[seat] = new.row
            self._batch.put(seat, new.cache)
        if joining:
            self._rows += [new.row for new in joining]
            self._batch.add([new.cache for new in joining])
            joining.clear()

    def _draw(self, tokens: mx.array) -> list[Chunk]:
        chunks = [chunk for row in self.rows if row.constraint for chunk in self._allow(row)]
        if self._sampler is None:
            self._sampler = self._sort_out()
        best, logits = self._batch.step(tokens)
        drawn = best if self._group and self._group.rank else self._sampler.draw(logits, best)
        weighed = [search.weigh(logits[self._seats(search.beams)]) for search in self._searches]
        if self._group:
            drawn, weighed = self._agreed(self._group, drawn, weighed, logits)
        self._drawn = Drawn(list(self._rows), drawn, describe(self._single, logits, drawn), weighed)
        for row in self._rows:
            if row is not None:
                row.drawn += 1
        if self._ahead:
            start(drawn)
        return chunks

    def _agreed(
        self, group: Group, drawn: mx.array, weighed: list[Weighed], logits: mx.array
    ) -> tuple[mx.array, list[Weighed]]:
        found = [array for each in weighed for array in (each.places, each.totals)]
        drawn, *found = group.agree([drawn, *found], behind=logits)
        both = zip(weighed, found[::2], found[1::2], strict=True)
        return drawn, [replace(each, places=places, totals=totals) for each, places, totals in both]

    def _sort_out(self) -> Sampler:
        """Who is drawn for, and who is searched for."""
        beams = [row for row in self.rows if isinstance(row, Beam)]
        self._searches = list(dict.fromkeys(beam.search for beam in beams if not beam.over))
        self._single = [None if isinstance(row, Beam) else row for row in self._rows] if beams else self._rows
        return Sampler(self._single, self._vocabulary)

    def _seats(self, beams: Sequence[Beam]) -> mx.array:
        return mx.array([self._rows.index(beam) for beam in beams])

    def _allow(self, row: Row) -> list[Chunk]:
        try:
            row.allow()
        except REQUEST_ERRORS as error:
            return row.answer.fail(*failure(error))
        return []

    def _read(self, go_on: bool) -> list[Chunk]:
        """The tokens that were drawn; a step ahead of them is begun before, if no row must see them first."""
        drawn, self._drawn = self._drawn, None
        assert drawn is not None
        must_see = bool(self._searches) or any(
            row is None or row.over or row.constraint or row.fills for row in self._rows
        )
        if go_on and not must_see:
            self._draw(mx.minimum(drawn.tokens, self._vocabulary - 1))
        evaluate(
            drawn.tokens,
            drawn.details.arrays if drawn.details else (),
            [each.arrays for each in drawn.weighed],
        )
        details = read(drawn.details)
        chunks: list[Chunk] = []
        for seat, (row, token) in enumerate(zip(drawn.rows, integers(drawn.tokens), strict=True)):
            if row is not None and not row.over:
                chunks += self._take(row, token, details.get(seat))
        for weighed in drawn.weighed:
            if not weighed.search.answer.over:
                chunks += self._search(weighed)
        return chunks

    def _search(self, weighed: Weighed) -> list[Chunk]:
        """The beams become what is worth following, and their caches with them."""
        try:
            chunks, moves = weighed.search.advance(weighed, self._vocabulary)
        except REQUEST_ERRORS as error:
            return weighed.search.answer.fail(*failure(error))
        if moves:
            self._move(moves, weighed.search.depth)
        return chunks

    def _move(self, moves: list[Move], tokens: int) -> None:
        """`tokens`: most that the caches of a search differ in."""
        seat = self._rows.index
        old = [(seat(source), seat(target)) for source, target in moves if target in self._rows]
        new = [(seat(source), target) for source, target in moves if target not in self._rows]
        caches = {source: self._batch.extract(source) for source in {source for source, _ in new}}
        if old:
            sources, targets = zip(*old, strict=True)
            self._batch.copy(sources, targets, tokens)
        self._seat([Joining(target, caches[source]) for source, target in new])

    def _take(self, row: Row, token: int, details: TokenLogprobs | None) -> list[Chunk]:
        if token == self._vocabulary:
            self._soiled = True
            return row.answer.fail("engine_failed", row.dead_end)
        try:
            return row.take(token, details)
        except REQUEST_ERRORS as error:
            return row.answer.fail(*failure(error))

    def hand_over(self) -> tuple[list[Joining], list[Chunk]]:
        """All rows, to another batch, if none of them is to leave; and the chunks that were on their way."""
        self._out = chunks = list[Chunk]()
        if self._drawn:
            chunks += self._read(go_on=False)
        if any(row is None or row.over or row.full for row in self._rows):
            return [], chunks
        handed = [Joining(row, self._batch.extract(seat)) for seat, row in enumerate(self.rows)]
        self.clear()
        return handed, chunks

    def give_up(self, joining: Sequence[Joining]) -> tuple[list[Row], list[Chunk]]:
        """The step failed, and the arrays may be gone: the rows that were in it, and the chunks that it had made."""
        rows = list(dict.fromkeys(row.root for row in [*self.rows, *(each.row for each in joining)]))
        for row in rows:
            row.drawn = row.position
        self.clear()
        return [row for row in rows if not row.over], self._out

    def clear(self) -> None:
        self._batch.keep([])
        self._rows, self._sampler, self._drawn, self._soiled = [], None, None, False
        self._searches = []
