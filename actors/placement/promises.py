"""What a plan comes to: its memory, its bytes to fetch, its speed; and the refusal of one that lacks room."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from actors.placement.costs import ONE, Stage, full, pipeline_s, tensor_s
from actors.placement.prompts import pipeline_first_s, tensor_first_s
from actors.placement.question import Question
from actors.placement.topology import Machine
from schemas.instance import Split
from schemas.plan import Burden, Plan, RefusedPlan


def short(split: Split, parts: Sequence[Burden]) -> RefusedPlan | None:
    """The refusal of a plan some of whose nodes lack room."""
    short = [part for part in parts if part.memory_bytes > part.free_bytes]
    if not short:
        return None
    words = (
        f"{part.node} needs {part.memory_bytes} bytes of memory and has {part.free_bytes} left"
        for part in short
    )
    return RefusedPlan(
        split=split,
        reason="; ".join(words),
        nodes=tuple(part.node for part in parts),
        missing_bytes=sum(part.memory_bytes - part.free_bytes for part in short),
    )


def severed(question: Question, split: Split, machines: Sequence[Machine]) -> RefusedPlan | None:
    """The refusal of a plan whose ranks could not reach each other: in a pipeline each is joined to the next, the last
    one to the first."""
    nodes = tuple(machine.node for machine in machines)
    pairs = combinations(nodes, 2) if split == "tensor" else pairwise((*nodes, nodes[0]))
    reason = question.topology.why_severed(pairs)
    return RefusedPlan(split=split, reason=reason, nodes=nodes) if reason else None


def pipeline_plan(question: Question, stages: Sequence[Stage], split: Split) -> Plan | RefusedPlan:
    shape, topology = question.shape, question.topology
    if refused := severed(question, split, [stage.machine for stage in stages]):
        return refused
    return Plan(
        split=split,
        parts=parts(question, stages, 1),
        tokens_s=1 / pipeline_s(shape, topology, stages, ONE),
        full_tokens_s=shape.slots / pipeline_s(shape, topology, stages, full(shape)),
        ttft_s=pipeline_first_s(shape, topology, stages),
    )


def tensor_plan(question: Question, group: Sequence[Machine]) -> Plan | RefusedPlan:
    shape, topology = question.shape, question.topology
    if refused := severed(question, "tensor", group):
        return refused
    return Plan(
        split="tensor",
        parts=parts(question, [Stage(one, 0, shape.layers) for one in group], len(group)),
        tokens_s=1 / tensor_s(shape, topology, group, ONE),
        full_tokens_s=shape.slots / tensor_s(shape, topology, group, full(shape)),
        ttft_s=tensor_first_s(shape, topology, group),
    )


def parts(question: Question, stages: Sequence[Stage], ranks: int) -> tuple[Burden, ...]:
    """`ranks` > 1: each has a part of every layer, and fetches all of them."""
    shape, cut = question.shape, len(stages) > 1 and ranks == 1

    def burden(stage: Stage) -> Burden:
        machine, layers = stage.machine, (stage.first, stage.end) if cut else None
        weights = shape.outer_bytes + sum(shape.layer_bytes[stage.first : stage.end])
        return Burden(
            node=machine.node,
            layers=layers,
            memory_bytes=int(shape.memory_bytes(stage.first, stage.end, ranks) * machine.growth),
            free_bytes=machine.free_bytes,
            fetch_bytes=0 if machine.has(layers) else weights,
        )

    return tuple(burden(stage) for stage in stages)
