"""Whole, in a pipeline, as a tensor group, in a pipeline of pairs: what there is of each, or why there is nothing."""

from itertools import combinations

from actors.placement.carrier import room
from actors.placement.costs import Stage
from actors.placement.hybrid import by_room, hybrids
from actors.placement.paths import Best
from actors.placement.pipeline import pipelines
from actors.placement.promises import parts, pipeline_plan, short, tensor_plan
from actors.placement.question import Found, Question
from actors.placement.tensor import sizes, tensor_group
from schemas.instance import Split
from schemas.plan import RefusedPlan
from schemas.split import PAIR

MOST_RANKS = 16
"""Of a tensor group: with more, adding up takes longer than computing."""


def try_whole(question: Question) -> Found:
    shape = question.shape
    for machine in question.topology.machines:
        stages = [Stage((machine,), 0, shape.layers)]
        yield short("whole", parts(question, stages)) or pipeline_plan(question, stages, "whole")


def try_pipelines(question: Question) -> Found:
    return _staged(question, "pipeline", pipelines(question.shape, question.topology, question.step), 1)


def try_hybrids(question: Question) -> Found:
    return _staged(question, "hybrid", hybrids(question.shape, question.topology, question.step), PAIR)


def _staged(question: Question, split: Split, found: Best, width: int) -> Found:
    """`width`: machines of each stage."""
    fewest = question.fewest(width)
    enough = [stages for count, (_, stages) in found.items() if count >= fewest]
    for stages in enough:
        yield pipeline_plan(question, stages, split)
    if not enough:
        yield _no_stages(question, split, fewest, width)


def _no_stages(question: Question, split: Split, fewest: int, width: int) -> RefusedPlan:
    shape, topology, machines = question.shape, question.topology, question.topology.machines
    groups = by_room(shape, topology, machines) if width == PAIR else ((one,) for one in machines)
    room_left = sum(room(shape, group) for group in groups)
    need = sum(shape.layer_memory(layer) for layer in range(shape.layers))
    if len(machines) < fewest * width:
        reason = f"it takes {fewest * width} nodes, and there are {len(machines)}"
        return RefusedPlan(split=split, reason=reason)
    missing = max(0, need - room_left)
    severed = topology.why_severed(combinations((one.node for one in machines), 2))
    reason = (
        f"its layers need {need} bytes of memory, all nodes together have {room_left} left for layers"
        + (" where each takes as much as the other of its pair" if width == PAIR else "")
        if missing
        else f"{severed}, and no order of {fewest * width} or more nodes does without it"
        if severed
        else f"no cut into {fewest} or more parts has room on the nodes: a layer has up to "
        f"{max(shape.layer_memory(layer) for layer in range(shape.layers))} bytes, and each node needs "
        f"{shape.fixed_bytes} besides"
    )
    return RefusedPlan(split=split, reason=reason, missing_bytes=missing)


def try_tensors(question: Question) -> Found:
    shape, topology, fewest = question.shape, question.topology, question.fewest()
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
            refused = short("tensor", parts(question, [Stage(tuple(roomiest), 0, shape.layers)]))
            assert refused is not None
            yield refused
