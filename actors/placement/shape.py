"""What a model asks of the machines that carry it: memory for each part, bytes to read and products to compute."""

from msgspec import Struct

from actors.engine.slots import CPU_SLOTS
from schemas.model import ModelCard, ModelSpec

CACHE_SHARE = 0.2
"""Keys and values may take this part of the weights' bytes, where nobody said slots and context."""
ACTIVATION_TOKENS = 512
"""A prompt is read in pieces of at most so many tokens."""
ACTIVATIONS = 16
"""Intermediate results of a layer that are there at once, each as wide as the model."""
NUMBER_BYTES = 4
"""Activations are float32."""


class Shape(Struct, frozen=True, kw_only=True):
    """Sizes in bytes."""

    layer_bytes: tuple[int, ...]
    outer_bytes: int
    head_bytes: int
    read_share: float = 1.0
    weight_bytes: float = 2.0
    """Of one number that the model has learnt."""
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    token_cache_bytes: int = 0
    """Keys and values of one token in one layer."""
    layer_cache_bytes: int = 0
    """Keys and values of all tokens that are there at once, in one layer."""
    slots: int = CPU_SLOTS

    @property
    def layers(self) -> int:
        return len(self.layer_bytes)

    @property
    def activation_bytes(self) -> int:
        return ACTIVATION_TOKENS * ACTIVATIONS * NUMBER_BYTES * self.hidden

    @property
    def fixed_bytes(self) -> int:
        """What every rank of a split has, however few layers are its own."""
        return self.outer_bytes + self.activation_bytes

    def layer_memory(self, layer: int) -> int:
        """Weights and cache of one layer."""
        return self.layer_bytes[layer] + self.layer_cache_bytes

    def memory_bytes(self, first: int, end: int, ranks: int = 1) -> int:
        """Of one rank that has a `ranks`-th of each of these layers."""
        layers = sum(self.layer_memory(layer) for layer in range(first, end))
        return self.fixed_bytes + -(-layers // ranks)

    def read_bytes(self, layer: int, tokens: int) -> float:
        """That a step for so many tokens goes through; the more tokens, the more experts are asked."""
        return self.layer_bytes[layer] * min(1.0, self.read_share * tokens)

    def layer_flop(self, layer: int, tokens: int) -> float:
        """A product and a sum for each number and token."""
        return 2 * tokens * self.read_share * self.layer_bytes[layer] / self.weight_bytes


def shape_of(card: ModelCard, spec: ModelSpec, usual: int = CPU_SLOTS) -> Shape:
    """The shape of a model as it is wished for; one layer when nobody has counted its layers. `usual`: slots where nobody
    said how many."""
    slots = spec.slots or usual
    layers = card.layer_bytes or (card.weights_bytes,)
    return Shape(
        layer_bytes=layers,
        outer_bytes=card.outer_bytes,
        head_bytes=card.head_bytes,
        read_share=card.read_share,
        weight_bytes=max(0.25, card.weights_bytes / max(1, card.parameters)),
        hidden=card.hidden,
        heads=card.heads,
        kv_heads=card.kv_heads,
        token_cache_bytes=card.cache_bytes,
        layer_cache_bytes=-(-_cache_bytes(card, spec, slots) // len(layers)),
        slots=slots,
    )


def _cache_bytes(card: ModelCard, spec: ModelSpec, slots: int) -> int:
    """Of all layers: slots x context where both were asked for, else a bounded share that has room for one context."""
    token = card.cache_bytes * len(card.layer_bytes)
    all_slots = slots * (spec.context or card.context) * token
    share = int(CACHE_SHARE * card.weights_bytes)
    if spec.batch_bytes is not None:
        return spec.batch_bytes
    if not token:
        return share
    if spec.slots and spec.context:
        return all_slots
    return min(all_slots, max(share, (spec.context or 0) * token))
