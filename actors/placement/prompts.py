"""How long the first token takes: all of the prompt goes through the model, in pieces where it takes long."""

from collections.abc import Sequence
from itertools import pairwise

from actors.engine.patience import ALONE_S, SPARE_S
from actors.placement.costs import ONE, PROMPT_TOKENS, Stage, all_sum_s, pipeline_s, tensor_s, work_s
from actors.placement.shape import NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology

AT_ONCE_S = ALONE_S + SPARE_S
"""A prompt that takes no longer is read at once; seconds."""
PIECES = 4
"""A longer one is read in so many by ranks of a group (`actors/engine/prefill.py`)."""
TOUCHED = 64
"""Numbers that are read or written beside weights, for each that the model is wide, in each layer, for each token."""
PROMPT_BYTES = PROMPT_TOKENS * NUMBER_BYTES
"""For each number that the model is wide."""


def pipeline_first_s(shape: Shape, topology: Topology, stages: Sequence[Stage]) -> float:
    """Seconds to the first token after a prompt of `PROMPT_TOKENS`: while a stage is at one piece, the stage before it is at
    the next; nothing comes back before the prompt is read."""
    once = [_once_s(shape, stage, 1) for stage in stages]
    all_s = [_all_s(shape, stage, 1) for stage in stages]
    count = 1 if len(stages) == 1 else pieces(sum(all_s) + sum(once))
    size = PROMPT_BYTES * shape.hidden / count
    hops = [
        topology.crossing_s(one.machine.node, next_.machine.node, size) for one, next_ in pairwise(stages)
    ]
    piece = [part / count + each for part, each in zip(all_s, once, strict=True)]
    in_turn = sum(piece) + sum(hops) + (count - 1) * max([*piece, *hops])
    return in_turn + pipeline_s(shape, topology, stages, ONE)


def tensor_first_s(shape: Shape, topology: Topology, ranks: Sequence[Machine]) -> float:
    """The same for a group that adds up twice a layer, for each piece."""
    members = [Stage(machine, 0, shape.layers) for machine in ranks]
    once = max(_once_s(shape, member, len(ranks)) for member in members)
    all_s = max(_all_s(shape, member, len(ranks)) for member in members)
    empty = 2 * shape.layers * all_sum_s(topology, ranks, 0)
    sums = 2 * shape.layers * all_sum_s(topology, ranks, PROMPT_BYTES * shape.hidden)
    count = pieces(all_s + once + sums)
    return all_s + sums + count * once + (count - 1) * empty + tensor_s(shape, topology, ranks, ONE)


def pieces(all_s: float) -> int:
    """Of a prompt that takes a group so long."""
    return 1 if all_s <= AT_ONCE_S else PIECES


def _once_s(shape: Shape, stage: Stage, ranks: int) -> float:
    """What each piece costs, however short: its weights are read."""
    layers = range(stage.first, stage.end)
    read = sum(shape.read_bytes(layer, PROMPT_TOKENS) for layer in layers) / ranks
    return work_s(stage.machine, read, 0) + len(layers) * stage.machine.layer_s


def _all_s(shape: Shape, stage: Stage, ranks: int) -> float:
    """What the whole prompt costs, however many pieces: products, what lies between them, and each token's look at the
    others."""
    layers, machine = range(stage.first, stage.end), stage.machine
    flop = sum(shape.layer_flop(layer, PROMPT_TOKENS) for layer in layers)
    touched = len(layers) * TOUCHED * PROMPT_BYTES * shape.hidden / machine.read_bytes_s
    looks = len(layers) * shape.heads * PROMPT_TOKENS**2 * machine.score_s
    return (work_s(machine, 0, flop) + touched + looks) / ranks
