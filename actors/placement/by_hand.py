"""The split that somebody made by hand, judged as any other."""

from collections.abc import Sequence

from actors.placement.costs import Stage
from actors.placement.pipeline import in_order
from actors.placement.promises import parts, pipeline_plan, severed, short, tensor_plan
from actors.placement.question import Found, Question
from actors.placement.tensor import Group, sizes
from actors.placement.topology import Machine
from schemas.instance import Split
from schemas.plan import RefusedPlan
from schemas.split import PAIR


def try_by_hand(question: Question, split: Split) -> Found:
    """The one plan that somebody made, if it has room."""
    shape, spec = question.shape, question.spec
    known = {machine.node: machine for machine in question.topology.machines}
    absent = [share.node for share in spec.split if share.node not in known]
    if absent:
        yield RefusedPlan(
            split=split, reason=f"node {absent[0]} of the split may not carry it", nodes=tuple(absent)
        )
        return
    machines = [known[share.node] for share in spec.split]
    if split == "tensor":
        if len(machines) not in sizes(shape, len(machines)):
            yield RefusedPlan(
                split=split,
                reason=f"{len(machines)} ranks do not divide {shape.heads} and {shape.kv_heads} heads",
            )
            return
        carried = parts(question, [Stage(tuple(machines), 0, shape.layers)])
        yield short(split, carried) or tensor_plan(question, machines)
        return
    if refused := severed(question, split, machines):
        yield refused
        return
    groups = _in_pairs(machines) if split == "hybrid" else [(machine,) for machine in machines]
    stages = _cut_by_hand(question, groups)
    if isinstance(stages, str):
        yield RefusedPlan(split=split, reason=stages, nodes=tuple(machine.node for machine in machines))
    else:
        yield short(split, parts(question, stages)) or pipeline_plan(question, stages, split)


def _in_pairs(machines: Sequence[Machine]) -> list[Group]:
    return list(zip(machines[::PAIR], machines[1::PAIR], strict=True))


def _cut_by_hand(question: Question, groups: Sequence[Group]) -> Sequence[Stage] | str:
    """The stages, or why there are none."""
    shape, shares = question.shape, question.spec.split
    cuts = [share.layers for share in shares[:: len(groups[0])] if share.layers is not None]
    if not cuts:
        stages = in_order(shape, question.topology, question.step, groups)
        return stages or "its layers have no room on these nodes in this order"
    if cuts[-1][1] != shape.layers:
        return f"the split ends at layer {cuts[-1][1]}, and the model has {shape.layers}"
    return [Stage(group, *cut) for group, cut in zip(groups, cuts, strict=True)]
