"""How long a step takes: the model of cost that every plan is judged by (docs/placement.md has its formulas)."""

from collections.abc import Sequence
from itertools import pairwise, permutations

from msgspec import Struct

from actors.placement.shape import NUMBER_BYTES, Shape
from actors.placement.topology import Machine, Topology


class Step(Struct, frozen=True):
    """What the model is run for once."""

    tokens: int
    rows: int
    """Of logits."""
    behind: int
    """Tokens that attention looks back on, for each of `tokens`."""


PROMPT_TOKENS = 512
"""The prompt of `ttft_s`, and what a sequence has behind it when its speed is predicted."""
ONE = Step(1, 1, PROMPT_TOKENS)


def full(shape: Shape) -> Step:
    """A step with every slot taken."""
    return Step(shape.slots, shape.slots, PROMPT_TOKENS)


class Stage(Struct, frozen=True):
    """One rank of a pipeline: a machine and its layers."""

    machine: Machine
    first: int
    end: int


def layer_s(shape: Shape, machine: Machine, layer: int, step: Step, ranks: int = 1) -> float:
    """Seconds for a `ranks`-th of one layer: it reads its weights and the keys and values behind, and computes."""
    read = shape.read_bytes(layer, step.tokens) + step.tokens * step.behind * shape.token_cache_bytes
    flop = shape.layer_flop(layer, step.tokens)
    return work_s(machine, read, flop) / ranks + machine.layer_s


def head_s(shape: Shape, machine: Machine, step: Step) -> float:
    """Seconds from the last layer's result to logits."""
    return work_s(machine, shape.head_bytes, 2 * step.rows * shape.head_bytes / shape.weight_bytes)


def work_s(machine: Machine, read_bytes: float, flop: float) -> float:
    return read_bytes * machine.growth / machine.read_bytes_s + flop / machine.flop_s


def hop_s(shape: Shape, topology: Topology, start: Machine, end: Machine, step: Step) -> float:
    """From one stage to the next, and the result's way back: it passes every stage again. The token that is agreed upon
    goes both ways too."""
    return sum(
        topology.crossing_s(start.node, end.node, size) + topology.crossing_s(end.node, start.node, size)
        for size in (step.tokens * shape.hidden * NUMBER_BYTES, step.rows * NUMBER_BYTES)
    )


def pipeline_s(shape: Shape, topology: Topology, stages: Sequence[Stage], step: Step) -> float:
    """Seconds of one step; stages take turns, so that their times add up."""
    layers = sum(
        layer_s(shape, stage.machine, layer, step)
        for stage in stages
        for layer in range(stage.first, stage.end)
    )
    hops = sum(hop_s(shape, topology, one.machine, next_.machine, step) for one, next_ in pairwise(stages))
    return head_s(shape, stages[0].machine, step) + layers + hops


def tensor_s(shape: Shape, topology: Topology, ranks: Sequence[Machine], step: Step) -> float:
    """Seconds of one step of a group whose members have an equal part of each layer, and add up twice a layer."""
    slowest = max(member_s(shape, machine, step, len(ranks)) for machine in ranks)
    return slowest + sums_s(shape, topology, ranks, step)


def member_s(shape: Shape, machine: Machine, step: Step, ranks: int) -> float:
    """What one member of such a group computes, seconds."""
    layers = sum(layer_s(shape, machine, layer, step, ranks) for layer in range(shape.layers))
    return layers + head_s(shape, machine, step)


def sums_s(shape: Shape, topology: Topology, ranks: Sequence[Machine], step: Step) -> float:
    """Two sums in each layer, and one of the tokens that are agreed upon. Seconds."""
    layers = all_sum_s(topology, ranks, step.tokens * shape.hidden * NUMBER_BYTES)
    return 2 * shape.layers * layers + all_sum_s(topology, ranks, step.rows * NUMBER_BYTES)


def all_sum_s(topology: Topology, ranks: Sequence[Machine], size: float) -> float:
    """A ring passes each piece twice around; its slowest way holds up all. Seconds."""
    piece = size / len(ranks)
    ways = (topology.crossing_s(one.node, other.node, piece) for one, other in permutations(ranks, 2))
    return 2 * (len(ranks) - 1) * max(ways)
