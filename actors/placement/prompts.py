"""How long the first token takes: a prompt goes through the model in pieces, and stages work on several of them at once."""

from collections.abc import Sequence
from itertools import pairwise

from actors.placement.costs import (
    ONE,
    PROMPT_TOKENS,
    Stage,
    all_sum_s,
    pipeline_s,
    tensor_s,
    work_s,
)
from actors.placement.shape import NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology

PIECE_S = 0.25
"""How long a piece may take (`actors/engine/prefill.py`)."""
FEWEST = 4
"""Tokens of a piece."""


def pipeline_first_s(shape: Shape, topology: Topology, stages: Sequence[Stage]) -> float:
    """Seconds to the first token after a prompt of `PROMPT_TOKENS`: while one stage computes a piece, the one before it
    computes the next; nothing comes back before the prompt is read."""
    once = [_once_s(shape, stage, 1) for stage in stages]
    all_s = [_all_s(shape, stage, 1) for stage in stages]
    count = pieces(max(all_s), max(once))
    size = PROMPT_TOKENS * shape.hidden * NUMBER_BYTES / count
    hops = [
        topology.crossing_s(one.machine.node, next_.machine.node, size) for one, next_ in pairwise(stages)
    ]
    taken = [whole / count + each for whole, each in zip(all_s, once, strict=True)]
    waiting = (count - 1) * max([*taken, *hops])
    return sum(taken) + sum(hops) + waiting + pipeline_s(shape, topology, stages, ONE)


def tensor_first_s(shape: Shape, topology: Topology, ranks: Sequence[Machine]) -> float:
    """The same for a group that adds up twice a layer for each piece."""
    members = [Stage(machine, 0, shape.layers) for machine in ranks]
    once = max(_once_s(shape, member, len(ranks)) for member in members)
    once += 2 * shape.layers * all_sum_s(topology, ranks, 0)
    whole = max(_all_s(shape, member, len(ranks)) for member in members)
    size = PROMPT_TOKENS * shape.hidden * NUMBER_BYTES
    whole += 2 * shape.layers * (all_sum_s(topology, ranks, size) - all_sum_s(topology, ranks, 0))
    return whole + pieces(whole, once) * once + tensor_s(shape, topology, ranks, ONE)


def pieces(all_s: float, once_s: float) -> float:
    """Of a prompt that takes `all_s`, and `once_s` more for each piece."""
    return max(1.0, min(PROMPT_TOKENS / FEWEST, all_s / max(1e-9, PIECE_S - once_s)))


def _once_s(shape: Shape, stage: Stage, ranks: int) -> float:
    """What each piece costs, however short: its weights are read."""
    layers = range(stage.first, stage.end)
    read = sum(shape.read_bytes(layer, PROMPT_TOKENS) for layer in layers) / ranks
    return work_s(stage.machine, read, 0) + len(layers) * stage.machine.layer_s


def _all_s(shape: Shape, stage: Stage, ranks: int) -> float:
    """What the whole prompt costs, however many pieces: products, and each token's look at half of the others."""
    layers = range(stage.first, stage.end)
    flop = sum(shape.layer_flop(layer, PROMPT_TOKENS) for layer in layers)
    scores = len(layers) * shape.heads * PROMPT_TOKENS**2 / 2
    return (work_s(stage.machine, 0, flop) + scores * stage.machine.score_s) / ranks
