"""How long the first token takes: all of the prompt goes through the model, in pieces where it takes long."""

from collections.abc import Sequence
from itertools import pairwise

from actors.engine.patience import ALONE_S, SPARE_S
from actors.placement.costs import (
    ONE,
    PROMPT_TOKENS,
    Stage,
    all_sum_s,
    exchange_s,
    in_ring,
    pipeline_s,
    tensor_s,
    work_s,
)
from actors.placement.shape import NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology

AT_ONCE_S = ALONE_S + SPARE_S
"""A prompt that takes no longer is read at once; seconds."""
PIECES = 4
"""A longer one is read in so many by ranks of a group, and every one by a pipeline (`actors/engine/prefill.py`)."""
TOUCHED = 64
"""Numbers that are read or written beside weights, for each that the model is wide, in each layer, for each token."""
PROMPT_BYTES = PROMPT_TOKENS * NUMBER_BYTES
"""For each number that the model is wide."""


def pipeline_first_s(shape: Shape, topology: Topology, stages: Sequence[Stage]) -> float:
    """Seconds to the first token after a prompt of `PROMPT_TOKENS`: while a stage is at one piece, the stage before it is at
    the next; nothing comes back before the prompt is read."""
    once = [_once_s(shape, stage) for stage in stages]
    all_s = [_all_s(shape, stage) for stage in stages]
    count = 1 if len(stages) == 1 else PIECES
    size = PROMPT_BYTES * shape.hidden / count
    hops = [topology.crossing_s(one.node, next_.node, size) for one, next_ in pairwise(in_ring(stages))]
    sums = [2 * (one.end - one.first) * exchange_s(topology, one.machines, size) for one in stages]
    piece = [part / count + each + sum_ for part, each, sum_ in zip(all_s, once, sums, strict=True)]
    in_turn = sum(piece) + sum(hops) + (count - 1) * max([*piece, *hops])
    return in_turn + pipeline_s(shape, topology, stages, ONE)


def tensor_first_s(shape: Shape, topology: Topology, ranks: Sequence[Machine]) -> float:
    """The same for a group that adds up twice a layer, for each piece."""
    group = Stage(tuple(ranks), 0, shape.layers)
    once, all_s = _once_s(shape, group), _all_s(shape, group)
    empty = 2 * shape.layers * all_sum_s(topology, ranks, 0)
    sums = 2 * shape.layers * all_sum_s(topology, ranks, PROMPT_BYTES * shape.hidden)
    count = pieces(all_s + once + sums)
    return all_s + sums + count * once + (count - 1) * empty + tensor_s(shape, topology, ranks, ONE)


def pieces(all_s: float) -> int:
    """Of a prompt that takes a group so long."""
    return 1 if all_s <= AT_ONCE_S else PIECES


def _once_s(shape: Shape, stage: Stage) -> float:
    """What each piece costs the slowest machine, however short: its part of the weights is read."""
    layers = range(stage.first, stage.end)
    read = sum(shape.read_bytes(layer, PROMPT_TOKENS) for layer in layers) / len(stage.machines)
    return max(work_s(machine, read, 0) + len(layers) * machine.layer_s for machine in stage.machines)


def _all_s(shape: Shape, stage: Stage) -> float:
    """What the whole prompt costs the slowest machine, however many pieces: products, what lies between them, and each
    token's look at the others."""
    layers = range(stage.first, stage.end)
    flop = sum(shape.layer_flop(layer, PROMPT_TOKENS) for layer in layers)
    touched = len(layers) * TOUCHED * PROMPT_BYTES * shape.hidden
    looks = len(layers) * shape.heads * PROMPT_TOKENS**2
    return max(
        (work_s(machine, 0, flop) + touched / machine.read_bytes_s + looks * machine.score_s)
        for machine in stage.machines
    ) / len(stage.machines)
