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
    """Layers, and the machines that have them: one, or a pair each of which has half of each layer."""

    machines: tuple[Machine, ...]
    """In the order in which they hand over what they have computed."""
    first: int
    end: int


class Work(Struct, frozen=True):
    """What a step asks of each layer, whoever computes it: bytes to read, floating-point operations."""

    read: list[float]
    flop: list[float]


def work_of(shape: Shape, step: Step) -> Work:
    """A layer reads its weights and the keys and values behind."""
    behind = step.tokens * step.behind * shape.token_cache_bytes
    layers = range(shape.layers)
    return Work(
        read=[shape.read_bytes(layer, step.tokens) + behind for layer in layers],
        flop=[shape.layer_flop(layer, step.tokens) for layer in layers],
    )


def layers_s(work: Work, machine: Machine, ranks: int = 1) -> list[float]:
    """Seconds for a `ranks`-th of each layer."""
    byte_s, flop_s = machine.growth / machine.reading_bytes_s(ranks) / ranks, 1 / machine.flop_s / ranks
    return [
        read * byte_s + flop * flop_s + machine.layer_s
        for read, flop in zip(work.read, work.flop, strict=True)
    ]


def shared_s(
    shape: Shape, topology: Topology, machines: Sequence[Machine], step: Step, work: Work
) -> list[float]:
    """Seconds of each layer of a stage: its slower machine's half, and two sums of both halves."""
    if len(machines) == 1:
        return layers_s(work, machines[0])
    sums = 2 * exchange_s(topology, machines, step.tokens * shape.hidden * NUMBER_BYTES)
    halves = [layers_s(work, machine, len(machines)) for machine in machines]
    return [max(half) + sums for half in zip(*halves, strict=True)]


def exchange_s(topology: Topology, pair: Sequence[Machine], size: float) -> float:
    """A pair adds up: one sends, then the other. Seconds; 0 for one machine alone."""
    return sum(topology.crossing_s(one.node, other.node, size) for one, other in permutations(pair, 2))


def head_s(shape: Shape, machine: Machine, step: Step) -> float:
    """Seconds from the last layer's result to logits."""
    return work_s(machine, shape.head_bytes, 2 * step.rows * shape.head_bytes / shape.weight_bytes)


def work_s(machine: Machine, read_bytes: float, flop: float) -> float:
    return read_bytes * machine.growth / machine.read_bytes_s + flop / machine.flop_s


def hop_s(shape: Shape, topology: Topology, start: Machine, end: Machine, step: Step) -> float:
    """From one stage to the next: the hidden states."""
    return topology.crossing_s(start.node, end.node, step.tokens * shape.hidden * NUMBER_BYTES)


def back_s(topology: Topology, end: Machine, start: Machine, step: Step) -> float:
    """From the last machine, which has drawn, to the first one, which begins the next step with that. The others hear of it
    before what they compute next has come to them."""
    return 0.0 if end is start else topology.crossing_s(end.node, start.node, step.rows * NUMBER_BYTES)


def pipeline_s(shape: Shape, topology: Topology, stages: Sequence[Stage], step: Step) -> float:
    """Seconds of one step; stages take turns, so that their times add up."""
    work = work_of(shape, step)
    layers = sum(
        sum(shared_s(shape, topology, stage.machines, step, work)[stage.first : stage.end])
        for stage in stages
    )
    ring = in_ring(stages)
    hops = sum(hop_s(shape, topology, one, next_, step) for one, next_ in pairwise(ring))
    back = back_s(topology, ring[-1], ring[0], step)
    return head_s(shape, ring[-1], step) + layers + hops + back


def in_ring(stages: Sequence[Stage]) -> list[Machine]:
    """The machines in the order in which they hand over; the last one is rank 0."""
    return [machine for stage in stages for machine in stage.machines]


def tensor_s(shape: Shape, topology: Topology, ranks: Sequence[Machine], step: Step) -> float:
    """Seconds of one step of a group whose members have an equal part of each layer, and add up twice a layer."""
    work = work_of(shape, step)
    slowest = max(member_s(shape, machine, step, work, len(ranks)) for machine in ranks)
    return slowest + sums_s(shape, topology, ranks, step)


def member_s(shape: Shape, machine: Machine, step: Step, work: Work, ranks: int) -> float:
    """What one member of such a group computes, seconds."""
    return sum(layers_s(work, machine, ranks)) + head_s(shape, machine, step)


def sums_s(shape: Shape, topology: Topology, ranks: Sequence[Machine], step: Step) -> float:
    """Two sums in each layer, and what was drawn goes from rank to rank. Seconds."""
    layers = all_sum_s(topology, ranks, step.tokens * shape.hidden * NUMBER_BYTES)
    told = (len(ranks) - 1) * _slowest_s(topology, ranks, step.rows * NUMBER_BYTES)
    return 2 * shape.layers * layers + told


def all_sum_s(topology: Topology, ranks: Sequence[Machine], size: float) -> float:
    """A ring passes each piece twice around; its slowest way holds up all. Seconds."""
    return 2 * (len(ranks) - 1) * _slowest_s(topology, ranks, size / len(ranks))


def _slowest_s(topology: Topology, ranks: Sequence[Machine], size: float) -> float:
    return max(topology.crossing_s(one.node, other.node, size) for one, other in permutations(ranks, 2))
