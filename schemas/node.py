"""What a node is made of, and what it says of itself once a second."""

from typing import Literal

from msgspec import Struct

from schemas.ids import InstanceId, NodeId

Accelerator = Literal["cpu", "metal", "cuda"]
Role = Literal["master", "worker", "api"]


class NodeProfile(Struct, frozen=True, kw_only=True):
    """What a machine offers; measured once when the node starts."""

    hostname: str
    platform: str
    """`linux-x86_64`, `darwin-arm64` ..."""
    cores: int
    memory_bytes: int
    accelerator: Accelerator = "cpu"
    accelerator_name: str = ""
    accelerator_memory_bytes: int = 0
    memory_bandwidth_bytes_s: float = 0.0
    """Measured by copying, bytes a second."""
    flop_s: float = 0.0
    """Floating-point operations a second of the engine's device in a product of matrices; 0: not measured."""
    read_bytes_s: float = 0.0
    """Weights that the engine's device goes through in a second, vector times matrix; 0: not measured."""
    far_read_bytes_s: float = 0.0
    """The same where they are more than caches hold; 0: not measured."""
    layer_s: float = 0.0
    """What a layer takes in each step besides reading and computing, seconds; 0: not measured."""
    score_s: float = 0.0
    """What a token of a prompt takes to look at another, in each head, seconds; 0: not measured."""
    blas: str = ""
    """The BLAS library that MLX computes with on this machine's CPU."""


class Beat(Struct, frozen=True, kw_only=True, tag="Beat"):
    """One node's load, sent once a second over core NATS."""

    node: NodeId
    cpu_percent: float
    memory_used_bytes: int
    memory_free_bytes: int
    instances: tuple[InstanceId, ...] = ()
    tokens_s: float = 0.0
    temperature_c: float | None = None


class Pulse(Struct, frozen=True, kw_only=True, tag="Pulse"):
    """One runner's sign of life, sent once a second over core NATS to the worker that watches it."""

    instance: InstanceId
    attempt: int
    steps: int
    """Steps that the engine has finished since the process began; the first one is loading the model."""
    step_age_s: float
    """Seconds since the running step began; 0 when the engine is idle."""
    step_cpu_s: float
    """Processor time that the process has used since the running step began; seconds."""
    slowest_step_s: float
    running: int = 0
    """Requests that are taken up and not ended."""
    tokens_s: float = 0.0
    rows: int = 0
    """Sequences that decode together."""
    reading: int = 0
    """Sequences whose prompts are being read."""
    waiting: int = 0
    """Requests that wait for a slot in the engine."""
    batch_bytes: int = 0
    """Memory of the keys and values of what decodes."""
    cache_bytes: int = 0
    """Memory of the prefixes that are kept."""
    drafted: int = 0
    """Tokens that the model's draft has proposed since the process began."""
    accepted: int = 0
    """Those of them that were right."""
    draft_lost: bool = False
    """The model's draft has failed, and is not used any more."""
    rank: int = 0
    """Which shard of the instance it has; rank 0 has taken up the requests."""
    retired: bool = False
    """It knows that it is to take no fresh requests."""
