"""Natural-log probabilities of drawn tokens and of the likeliest others, gathered once a step for all rows."""

from collections.abc import Sequence

import mlx.core as mx
from msgspec import Struct

from actors.engine.arrays import floats, lines
from actors.engine.row import Row
from schemas.chunks import TokenLogprobs


class Details(Struct, frozen=True):
    """Of the rows in `seats`: logprobs [rows] of what was drawn; [rows, most] ids and logprobs of the likeliest."""

    seats: list[int]
    alternatives: list[int]
    chosen: mx.array
    ids: mx.array
    values: mx.array

    @property
    def arrays(self) -> tuple[mx.array, mx.array, mx.array]:
        return self.chosen, self.ids, self.values


def describe(rows: Sequence[Row | None], logits: mx.array, drawn: mx.array) -> Details | None:
    """From the model's own [seats, vocabulary] logits; None when no row wants any."""
    wanted = [seat for seat, row in enumerate(rows) if row is not None and row.alternatives >= 0]
    if not wanted:
        return None
    alternatives = [row.alternatives for seat in wanted if (row := rows[seat]) is not None]
    seats = mx.array(wanted)
    own = logits[seats].astype(mx.float32)
    own = own - mx.logsumexp(own, axis=-1, keepdims=True)
    tokens = mx.minimum(drawn[seats], own.shape[-1] - 1)
    chosen = mx.take_along_axis(own, tokens[:, None], axis=-1)[:, 0]
    most = max(alternatives)
    if most == 0:
        none = mx.zeros((len(wanted), 0))
        return Details(wanted, alternatives, chosen, none, none)
    ids = mx.argpartition(-own, most - 1, axis=-1)[:, :most]
    return Details(wanted, alternatives, chosen, ids, mx.take_along_axis(own, ids, axis=-1))


def read(details: Details | None) -> dict[int, TokenLogprobs]:
    """By seat; the likeliest first, those of equal value by their ids."""
    if details is None:
        return {}
    chosen, ids, values = floats(details.chosen), lines(details.ids), lines(details.values)
    return {
        seat: _ordered(chosen[at], ids[at], values[at], details.alternatives[at])
        for at, seat in enumerate(details.seats)
    }


def _ordered(chosen: float, ids: list[int], values: Sequence[float], count: int) -> TokenLogprobs:
    order = sorted(range(len(ids)), key=lambda at: (-values[at], ids[at]))[:count]
    return TokenLogprobs(chosen, tuple(ids[at] for at in order), tuple(values[at] for at in order))
