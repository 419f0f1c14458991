"""How the next token is drawn: equal (seed, index, position) draw equal tokens, whoever draws."""

from collections.abc import Callable

import mlx.core as mx

from schemas.task import Sampling

_WORD = (1 << 64) - 1
Choose = Callable[[mx.array, int], mx.array]
"""([1, vocabulary] logits, position) -> [1] token."""


def chooser(sampling: Sampling, index: int) -> Choose:
    """How sequence `index` of a request draws its tokens."""
    if sampling.temperature == 0:
        return lambda logits, _: mx.argmax(logits, axis=-1)
    scale, top_p = mx.array(1.0 / max(sampling.temperature, 1e-5)), mx.array(sampling.top_p)
    stream = mix(mix(sampling.seed & _WORD) ^ index)
    if sampling.top_p >= 1:
        return lambda logits, position: _draw(logits, scale, key(stream, position))
    return lambda logits, position: _draw_top(logits, scale, top_p, key(stream, position))


@mx.compile  # a third of the time: all is overhead here, up to some thousand tokens of vocabulary
def _draw(logits: mx.array, scale: mx.array, key_of_draw: mx.array) -> mx.array:
    return mx.random.categorical(logits.astype(mx.float32) * scale, key=key_of_draw)


@mx.compile
def _draw_top(logits: mx.array, scale: mx.array, top_p: mx.array, key_of_draw: mx.array) -> mx.array:
    return mx.random.categorical(keep_top(logits.astype(mx.float32) * scale, top_p), key=key_of_draw)


def keep_top(logits: mx.array, top_p: mx.array) -> mx.array:
    """-inf for all but the fewest likeliest tokens that have `top_p` of the probability; the order stays.

    A threshold, and no permutation: noise in the last bits of two logits must not swap their random numbers.
    """
    probabilities = mx.softmax(logits, axis=-1)
    ascending = mx.sort(probabilities, axis=-1)
    kept = mx.cumsum(ascending, axis=-1) > 1 - top_p
    threshold = mx.min(mx.where(kept, ascending, ascending[..., -1:]), axis=-1, keepdims=True)
    return mx.where(probabilities >= threshold, logits, -mx.inf)


def key(stream: int, position: int) -> mx.array:
    """[2] uint32: the key of one draw, made without drawing those before it."""
    mixed = mix(stream + position)
    return mx.array([mixed >> 32, mixed & 0xFFFFFFFF], dtype=mx.uint32)


def mix(number: int) -> int:
    """A 64-bit number that looks unlike `number` (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)
