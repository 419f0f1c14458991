"""How fast a node goes through a model of some size: as it was measured, or as such nodes usually are."""

from math import log

from schemas.node import NodeProfile

NEAR_BYTES, FAR_BYTES = 2**25, 2**29
"""Of the weights that the two speeds of reading are measured with (`actors/engine/measurement.py`)."""
UNMEASURED_READ_BYTES_S = 1e10
UNMEASURED_FLOP_S = {"cpu": 1e11, "metal": 3e12, "cuda": 2e13}
UNMEASURED_LAYER_S = {"cpu": 250e-6, "metal": 40e-6, "cuda": 40e-6}


def read_bytes_s(profile: NodeProfile, size: int) -> float:
    """Bytes a second of weights that are `size` bytes in all: caches hold a part of few, and nothing of many."""
    near = profile.read_bytes_s or profile.memory_bandwidth_bytes_s or UNMEASURED_READ_BYTES_S
    far = profile.far_read_bytes_s or near
    share = min(1.0, max(0.0, log(max(1, size) / NEAR_BYTES) / log(FAR_BYTES / NEAR_BYTES)))
    return 1 / ((1 - share) / near + share / far)


def flop_s(profile: NodeProfile) -> float:
    return profile.flop_s or UNMEASURED_FLOP_S[profile.accelerator]


def layer_s(profile: NodeProfile) -> float:
    return profile.layer_s or UNMEASURED_LAYER_S[profile.accelerator]
