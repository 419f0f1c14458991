"""Keys of draws: equal (seed, index, position) give equal keys, whoever draws, alone or beside others."""

import mlx.core as mx

_WORD = (1 << 64) - 1


def stream_of(seed: int, index: int) -> int:
    """What all draws of one sequence have in common."""
    return mix(mix(seed & _WORD) ^ index)


def keys_of(draws: list[tuple[int, int]]) -> mx.array:
    """[draws, 2] uint32 for (stream, position) each, made without drawing those before."""
    words = [mix(stream + position) for stream, position in draws]
    return mx.array([(word >> 32, word & 0xFFFFFFFF) for word in words], dtype=mx.uint32)


def mix(number: int) -> int:
    """A 64-bit number that looks unlike `number` (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _WORD
    return number ^ (number >> 31)
