"""How fast a device is at what the engine does."""

from msgspec import Struct


class Speed(Struct, frozen=True, kw_only=True):
    """The best of some tries."""

    flop_s: float
    """Floating-point operations a second in a product of float32 matrices, as a chunk of a prompt asks for it."""
    read_bytes_s: float
    """Bytes of weights a second in products of matrices and a vector, where few are read."""
    far_read_bytes_s: float
    """And where they are more than caches hold."""
    layer_s: float
    """What a layer takes when there is nothing to read or compute: making its graph, and handing it over."""
    score_s: float
    """What a token of a prompt takes to look at another one, in each head."""
