"""Natural-log probabilities of a drawn token and of the likeliest others, gathered once a step."""

import mlx.core as mx

from actors.engine.arrays import evaluate, floats, integers
from schemas.chunks import TokenLogprobs

Details = tuple[mx.array, mx.array, mx.array]
"""[1] of the drawn token; [k] ids and [k] values of the likeliest, not in order."""


class Logprobs:
    """Describes them beside the token, and reads them when the token is read."""

    def __init__(self, alternatives: int) -> None:
        self._alternatives = alternatives
        self._latest: Details | None = None

    def of(self, logits: mx.array, token: mx.array) -> None:
        """Describe those of `token` [1], drawn from `logits` [1, vocabulary]."""
        row = logits[0].astype(mx.float32)
        logprobs = row - mx.logsumexp(row)
        ids = self._likeliest(logprobs)
        self._latest = (logprobs[token], ids, logprobs[ids])

    def _likeliest(self, logprobs: mx.array) -> mx.array:
        count = self._alternatives
        if count == 0:
            return mx.zeros((0,), mx.uint32)
        return mx.argpartition(-logprobs, count - 1)[:count]

    def take(self) -> Details | None:
        latest, self._latest = self._latest, None
        return latest

    def read(self, details: Details) -> tuple[TokenLogprobs, ...]:
        """Likeliest first; those of equal value by their ids."""
        evaluate(details)
        chosen, ids, values = floats(details[0]), integers(details[1]), floats(details[2])
        order = sorted(range(len(ids)), key=lambda at: (-values[at], ids[at]))
        return (TokenLogprobs(chosen[0], tuple(ids[at] for at in order), tuple(values[at] for at in order)),)
