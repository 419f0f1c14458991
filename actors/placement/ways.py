"""Whole, in a pipeline, as a tensor group: what there is of each, or why there is nothing."""

from itertools import combinations

from actors.placement.costs import Stage
from actors.placement.pipeline import pipelines
from actors.placement.promises import parts, pipeline_plan, short, tensor_plan
from actors.placement.question import Found, Question
from actors.placement.tensor import sizes, tensor_group
from schemas.plan import RefusedPlan

MOST_RANKS = 16
"""Of a tensor group: with more, adding up takes longer than computing."""


def try_whole(question: Question) -> Found:
    shape = question.shape
    for machine in question.topology.machines:
        stages = [Stage(machine, 0, shape.layers)]
        yield short("whole", parts(question, stages, 1)) or pipeline_plan(question, stages, "whole")


def try_pipelines(question: Question) -> Found:
    shape, topology, fewest = question.shape, question.topology, question.spec.min_nodes
    found = pipelines(shape, topology, question.step).best
    for count, (_, stages) in found.items():
        if count >= fewest:
            yield pipeline_plan(question, stages, "pipeline")
    if not any(count >= fewest for count in found):
        yield _no_pipeline(question)


def _no_pipeline(question: Question) -> RefusedPlan:
    shape, machines, fewest = question.shape, question.topology.machines, max(2, question.spec.min_nodes)
    room = sum(max(0, int(one.free_bytes / one.growth) - shape.fixed_bytes) for one in machines)
    need = sum(shape.layer_memory(layer) for layer in range(shape.layers))
    if len(machines) < fewest:
        reason = f"it takes {fewest} nodes, and there are {len(machines)}"
        return RefusedPlan(split="pipeline", reason=reason)
    missing = max(0, need - room)
    severed = question.topology.why_severed(combinations((one.node for one in machines), 2))
    reason = (
        f"its layers need {need} bytes of memory, all nodes together have {room} left for layers"
        if missing
        else f"{severed}, and no order of {fewest} or more nodes does without it"
        if severed
        else f"no cut into {fewest} or more parts has room on the nodes: a layer has up to "
        f"{max(shape.layer_memory(layer) for layer in range(shape.layers))} bytes, and each node needs "
        f"{shape.fixed_bytes} besides"
    )
    return RefusedPlan(split="pipeline", reason=reason, missing_bytes=missing)


def try_tensors(question: Question) -> Found:
    shape, topology, fewest = question.shape, question.topology, max(2, question.spec.min_nodes)
    possible = [ranks for ranks in sizes(shape, min(MOST_RANKS, len(topology.machines))) if ranks >= fewest]
    if not possible:
        yield RefusedPlan(
            split="tensor",
            reason=f"no number from {fewest} to {min(MOST_RANKS, len(topology.machines))} divides both its "
            f"{shape.heads} heads and its {shape.kv_heads} heads of keys and values",
        )
    for ranks in possible:
        group = tensor_group(shape, topology, ranks, question.step)
        if group is not None:
            yield tensor_plan(question, group)
        else:
            roomiest = sorted(topology.machines, key=lambda one: -one.free_bytes / one.growth)[:ranks]
            refused = short(
                "tensor", parts(question, [Stage(one, 0, shape.layers) for one in roomiest], ranks)
            )
            assert refused is not None
            yield refused
