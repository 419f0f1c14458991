"""What a model is wished to be (`ModelSpec`) and what it was found to be (`ModelCard`)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.ids import ModelId, NodeId

EngineName = Literal["mlx", "simulated"]
Strategy = Literal["auto", "whole", "pipeline", "tensor", "hybrid"]
"""How a copy may be spread: `auto` is whole where it fits somewhere, else the fastest split."""
Objective = Literal["latency", "throughput"]
"""What a split is chosen for: the time for a token of one sequence, or tokens a second with all slots taken."""
DRAFT_TOKENS = 4
IDLE_TIMEOUT_S = 600.0
Backend = Literal["ring", "jaccl", "nccl"]
"""How MLX moves numbers between the ranks of a split model: TCP; RDMA over Thunderbolt; NVIDIA's library."""
Positive = Annotated[float, Meta(gt=0)]


class SimulatedSpeed(Struct, frozen=True, kw_only=True):
    """How fast the simulated engine pretends to be; all speeds are in tokens a second for one sequence."""

    prefill: Positive = 10_000.0
    decode: Positive = 100.0
    load_s: Annotated[float, Meta(ge=0)] = 0.0
    slots: Annotated[int, Meta(ge=1, le=4096)] = 64
    cache_tokens: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    """Most tokens of prefixes that it pretends to keep; 0: none."""


class Share(Struct, frozen=True, kw_only=True):
    """One node's part in a split that somebody made by hand."""

    node: NodeId
    layers: tuple[int, int] | None = None
    """First layer that it has, and the one after its last; None: as it suits (pipeline, hybrid), or a part of each (tensor)."""


class ModelSpec(Struct, frozen=True, kw_only=True):
    """Desired state of one model, as somebody asked for it.

    `source` is `builtin:NAME`, a folder (`/models/llama`), or `hf:OWNER/NAME[@REVISION]`,
    `s3://BUCKET/PREFIX`, or `https://HOST/FOLDER`.
    """

    id: Annotated[ModelId, Meta(min_length=1, max_length=200)]
    source: Annotated[str, Meta(min_length=1, max_length=1000)]
    replicas: Annotated[int, Meta(ge=0, le=64)] = 1
    engine: EngineName = "mlx"
    context: Annotated[int, Meta(ge=1)] | None = None
    """Most tokens of prompt and answer together; None: what the model was made for."""
    node: NodeId | None = None
    """The only node that may carry it (a folder that only this node has)."""
    slots: Annotated[int, Meta(ge=1, le=4096)] | None = None
    """Sequences that run at once in an instance; None: what suits the node."""
    cache_bytes: Annotated[int, Meta(ge=0)] | None = None
    """Most memory of an instance for prefixes that are kept; None: what suits the node, 0: keep none."""
    simulated: SimulatedSpeed | None = None
    strategy: Strategy = "auto"
    min_nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    """Fewest nodes that a copy is spread over."""
    exclude: tuple[NodeId, ...] = ()
    """Nodes that carry nothing of it."""
    split: Annotated[tuple[Share, ...], Meta(max_length=64)] = ()
    """A split by hand: the nodes in the order of the layers, those of a hybrid in pairs; empty: placement decides."""
    objective: Objective = "latency"
    draft: Annotated[str, Meta(max_length=1000)] = ""
    """A smaller model with the same tokens, which proposes some that this one then draws in one step; a source like
    `source`, empty: none."""
    draft_tokens: Annotated[int, Meta(ge=1, le=16)] = DRAFT_TOKENS
    """Most tokens that the draft proposes at once."""

    backend: Backend = "ring"
    on_demand: bool = False
    """Loaded by the first request, and unloaded when nobody has used it for a while."""
    idle_timeout_s: Annotated[float, Meta(ge=5)] | None = None
    """After so many seconds without a request one that is loaded on demand is unloaded; None: `IDLE_TIMEOUT_S`."""
    keep: bool = False
    """Once it was loaded on demand it stays."""
    batch_bytes: Annotated[int, Meta(ge=1)] | None = None
    """Most memory of an instance for keys and values of sequences that run; None: what suits the node."""

    @property
    def idle_after_s(self) -> float | None:
        """After how many seconds without a request it is unloaded; None: it stays."""
        if not self.on_demand or self.keep:
            return None
        return IDLE_TIMEOUT_S if self.idle_timeout_s is None else self.idle_timeout_s

    @property
    def draft_id(self) -> ModelId:
        """By what name the draft's files are known to the cluster; clients cannot ask for it."""
        return ModelId(f"{self.id} (draft)")


class ModelCard(Struct, frozen=True, kw_only=True):
    """What the files of a model say about it, published by the node that read them first."""

    architecture: str
    """`model_type` of the model's config.json, such as `llama`."""
    parameters: int
    weights_bytes: int
    vocabulary: int
    context: int
    """Most tokens of prompt and answer together, as the model was made."""
    eos_ids: tuple[int, ...]
    artifact: str
    """Name of the object in `troupe_artifacts` that holds tokenizer, template and configuration."""
    layer_bytes: tuple[int, ...] = ()
    """Weights of each layer; empty: nobody has counted them."""
    outer_bytes: int = 0
    """Weights outside of the layers, which every rank of a pipeline has: embedding, head, norms."""
    head_bytes: int = 0
    """Of these, what each token is multiplied with to get logits."""
    read_share: float = 1.0
    """Part of a layer's weights that one token needs: less than 1 for mixtures of experts."""
    hidden: int = 0
    """Numbers that go from one layer to the next for each token."""
    heads: int = 0
    kv_heads: int = 0
    cache_bytes: int = 0
    """Keys and values of one token in one layer."""
