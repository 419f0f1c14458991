"""What a plan comes to: its memory, its bytes to fetch, its speed; and the refusal of one that lacks room."""

from collections.abc import Sequence
from itertools import combinations, pairwise

from actors.placement.costs import ONE, Stage, full, in_ring, pipeline_s, tensor_s
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
    """The refusal of a plan whose ranks could not reach each other: in a pipeline and a hybrid each is joined to the
    next, the last one to the first."""
    nodes = tuple(machine.node for machine in machines)
    pairs = combinations(nodes, 2) if split == "tensor" else pairwise((*nodes, nodes[0]))
    reason = question.topology.why_severed(pairs)
    return RefusedPlan(split=split, reason=reason, nodes=nodes) if reason else None


def pipeline_plan(question: Question, stages: Sequence[Stage], split: Split) -> Plan | RefusedPlan:
    shape, topology = question.shape, question.topology
    if refused := severed(question, split, in_ring(stages)):
        return refused
    return Plan(
        split=split,
        parts=parts(question, stages),
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
        parts=parts(question, [Stage(tuple(group), 0, shape.layers)]),
        tokens_s=1 / tensor_s(shape, topology, group, ONE),
        full_tokens_s=shape.slots / tensor_s(shape, topology, group, full(shape)),
        ttft_s=tensor_first_s(shape, topology, group),
    )


def parts(question: Question, stages: Sequence[Stage]) -> tuple[Burden, ...]:
    """What each machine carries: its part of its stage's layers, all of which it fetches."""
    shape = question.shape

    def burden(stage: Stage, machine: Machine) -> Burden:
        layers = (stage.first, stage.end) if len(stages) > 1 else None
        weights = shape.outer_bytes + sum(shape.layer_bytes[stage.first : stage.end])
        memory = shape.memory_bytes(stage.first, stage.end, len(stage.machines))
        return Burden(
            node=machine.node,
            layers=layers,
            memory_bytes=int(memory * machine.growth),
            free_bytes=machine.free_bytes,
            fetch_bytes=0 if machine.has(layers) else weights,
        )

    return tuple(burden(stage, machine) for stage in stages for machine in stage.machines)
