"""Rows that decode together, by their lengths: those of very different lengths are batches of their own, and take turns.

A step looks at as many places for each row of a batch as the longest has, and reads the model's weights once for all. So rows
share a batch while what shorter ones look at in vain is less than the weights: then nobody is faster in two batches. A
long row that joins short ones has a band of its own, where its arrays stay as they are, and nothing is laid out anew.

Each engine step is a step of one band, of the one that has had the least time so far.
"""

from collections.abc import Callable
from itertools import count

from actors.engine.decoding import Decoding, Joining
from actors.engine.row import Row
from actors.engine.speculation import Speculation
from schemas.chunks import Chunk

MOST = 8
"""A batch looks at no more than so many times the places that are worth the weights, or is one row: its
arrays would take long to be laid out anew when somebody joins, and there is little left to share."""
LEAST = 2048
"""Places that are always worth it: of a small model, steps take their time whatever is looked at."""
MERGED = 0.5
"""Bands become one when it would look at this part of what it might: not at once again when it has grown."""


class Band:
    """Rows of like lengths."""

    def __init__(self, number: int, decoding: Decoding) -> None:
        self.number = number
        self.decoding = decoding
        self.joining: list[Joining] = []
        """From its next step on."""
        self.used_s = 0.0
        """How much time it has had; who comes later begins with what others have had by then."""

    @property
    def rows(self) -> list[Row]:
        return [*self.decoding.rows, *(each.row for each in self.joining)]

    @property
    def lengths(self) -> list[int]:
        return [len(row.ids) for row in self.rows]

    @property
    def busy(self) -> bool:
        return self.decoding.occupied or bool(self.joining)


class Bands:
    """`step` until nobody is left."""

    def __init__(self, make: Callable[[], Decoding], worth: int) -> None:
        """`worth`: places whose keys and values are as many bytes as the weights that a step reads."""
        self._make = make
        self._worth = max(worth, LEAST)
        self._numbers = count()
        self._now_s = 0.0
        """What the band that was last chosen has had, its step included: were newcomers to begin with less, a stream of them
        would always be first."""
        self._bands = [self._new()]
        self._stepped = self._bands[0]
        self._out: list[Chunk] = []
        self.full: list[Row] = []
        """Those that have left, and are to be read anew."""
        self.speculation: Speculation | None = None

    def _new(self) -> Band:
        return Band(next(self._numbers), self._make())

    @property
    def rows(self) -> list[Row]:
        return [row for band in self._bands for row in band.rows]

    @property
    def occupied(self) -> bool:
        return any(band.busy for band in self._bands)

    @property
    def step_s(self) -> float:
        """How long a step takes, of late, of the band with the shortest ones."""
        known = [band.decoding.step_s for band in self._bands if band.busy and band.decoding.step_s]
        return min(known, default=0.0)

    @property
    def nbytes(self) -> int:
        own = self.speculation.nbytes if self.speculation else 0
        return own + sum(band.decoding.nbytes for band in self._bands)

    def choose(self) -> int:
        """The band whose turn it is, of equals the newest. What its step will take is noted as taken, as more are chosen before
        it is done; a first step as long as the shortest that is known."""
        busy = [band for band in self._bands if band.busy]
        if not busy:
            return 0
        band = min(busy, key=lambda band: (band.used_s, -band.number))
        band.used_s += band.decoding.step_s or self.step_s
        self._now_s = band.used_s
        return band.number

    def step(self, joining: list[Joining], more_to_come: bool, chosen: int) -> list[Chunk]:
        """A token for everybody in the `chosen` band, or in another one when it is gone, or has only now got its rows.
        `joining` is empty then."""
        self._out = chunks = list[Chunk]()
        self._sort(joining)
        for band in [band for band in self._bands if band.busy and all(row.over for row in band.rows)]:
            chunks += self._step(band, more_to_come=False)
        busy = [band for band in self._bands if band.busy]
        if busy:
            band = next((band for band in busy if band.number == chosen), busy[0])
            chunks += self._step(band, more_to_come)
            chunks += self._merge(band)
        return chunks

    def _sort(self, joining: list[Joining]) -> None:
        """Rows that begin with one cache stay together: a band that has one of them alone goes on in it."""
        chosen: dict[int, Band] = {}
        for each in joining:
            band = chosen.get(id(each.cache)) or self._band_for(each.row)
            band.joining.append(each)
            chosen[id(each.cache)] = band
        joining.clear()

    def _step(self, band: Band, more_to_come: bool) -> list[Chunk]:
        self._stepped, decoding = band, band.decoding
        alone = not any(other.busy for other in self._bands if other is not band)
        decoding.speculation = self.speculation if alone else None
        chunks = decoding.step(band.joining, more_to_come)
        full, decoding.full = decoding.full, []
        self.full += full
        self._drop(band)
        return chunks

    def _drop(self, band: Band) -> None:
        if not band.busy and len(self._bands) > 1:
            self._bands.remove(band)

    def _band_for(self, row: Row) -> Band:
        """Where the least is looked at in vain; an empty one suits anybody."""
        suiting = [band for band in self._bands if self._share([*band.lengths, len(row.ids)])]
        if not suiting:
            suiting = [self._new()]
            self._bands += suiting
        band = min(suiting, key=lambda band: _in_vain([*band.lengths, len(row.ids)]))
        if not band.busy:
            band.used_s = self._now_s
        return band

    def _share(self, lengths: list[int], part: float = 1.0) -> bool:
        """Whether rows of these lengths ought to be one batch."""
        most = part * self._worth
        seen = len(lengths) * max(lengths)
        return len(lengths) == 1 or (_in_vain(lengths) <= most and seen <= MOST * most)

    def _merge(self, band: Band) -> list[Chunk]:
        """With one whose rows have become as long, or of which the longest have left: the fewer join the others."""
        others = [other for other in self._bands if other is not band and other.rows and band.rows]
        alike = [other for other in others if self._share(band.lengths + other.lengths, MERGED)]
        if not alike:
            return []
        few, many = sorted((alike[0], band), key=lambda each: len(each.rows))
        self._stepped = few
        handed, chunks = few.decoding.hand_over()
        if not few.decoding.occupied:
            many.joining += [*handed, *few.joining]
            few.joining = []
            self._drop(few)
        return chunks

    def give_up(self) -> tuple[list[Row], list[Chunk]]:
        """The step failed, and the arrays may be gone: the rows that were in it, and the chunks that it had made."""
        band = self._stepped
        rows, chunks = band.decoding.give_up(band.joining)
        band.joining = []
        self._drop(band)
        return rows, self._out + chunks

    def clear(self) -> None:
        for band in self._bands:
            band.decoding.clear()
        self._bands = [self._new()]


def _in_vain(lengths: list[int]) -> int:
    """Places that rows look at without having anything there."""
    return len(lengths) * max(lengths) - sum(lengths)
