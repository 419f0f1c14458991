"""Every way to place one copy of a model, and every way that there is not, with its reason."""

from collections.abc import Callable, Sequence
from math import inf

import msgspec

from actors.placement.by_hand import try_by_hand
from actors.placement.question import Found, Question
from actors.placement.ways import try_pipelines, try_tensors, try_whole
from schemas.instance import Split
from schemas.plan import Plan, RefusedPlan


def previews(question: Question) -> tuple[list[Plan], list[RefusedPlan]]:
    """All plans, the one to choose first, and all refusals."""
    found = [*_tried(question, "whole"), *_tried(question, "pipeline"), *_tried(question, "tensor")]
    plans = [plan for plan in found if isinstance(plan, Plan)]
    return sorted(plans, key=_rank(question)), [one for one in found if isinstance(one, RefusedPlan)]


def choose(question: Question) -> Plan | RefusedPlan:
    """The first plan of `previews`; without plans the refusal that least is missing for."""
    refused: list[Plan | RefusedPlan] = []
    for whole in _tried(question, "whole"):  # the first that has room: the others need no predictions
        if isinstance(whole, Plan):
            return whole
        refused.append(whole)
    found = [*refused, *_tried(question, "pipeline"), *_tried(question, "tensor")]
    plans = [plan for plan in found if isinstance(plan, Plan)]
    if plans:
        return min(plans, key=_rank(question))
    return _least_missing([one for one in found if isinstance(one, RefusedPlan)])


def _least_missing(refused: Sequence[RefusedPlan]) -> RefusedPlan:
    """What would help most easily, and why the other ways are none."""
    lacking = [one for one in refused if one.missing_bytes]
    least = min(lacking, key=lambda one: one.missing_bytes) if lacking else refused[0]
    others = (
        f"{one.split}: {one.reason}" for one in refused if one.split != least.split and not one.missing_bytes
    )
    reason = "; ".join([f"{least.split}: {least.reason}", *others])
    return msgspec.structs.replace(least, reason=reason)


def _tried(question: Question, split: Split) -> Found:
    """At least one plan or refusal; whole ones in the order of the machines."""
    reason = _not_wished(question, split)
    if reason:
        return iter([RefusedPlan(split=split, reason=reason)])
    if question.spec.split:
        return try_by_hand(question, split)
    ways = {"whole": try_whole, "pipeline": try_pipelines, "tensor": try_tensors}
    return ways[split](question)


def _not_wished(question: Question, split: Split) -> str:
    spec, layers = question.spec, question.shape.layers
    by_hand = "tensor" if spec.strategy == "tensor" else "pipeline"
    wished = by_hand if spec.split else spec.strategy
    if wished not in ("auto", split):
        return f"{wished} was asked for"
    if split == "whole":
        return f"at least {spec.min_nodes} nodes were asked for" if spec.min_nodes > 1 else ""
    if split not in question.splits:
        return f"this version cannot run it as a {split} split"
    if split == "pipeline" and layers < max(2, spec.min_nodes):
        return "nobody has counted its layers yet" if layers == 1 else f"it has {layers} layers only"
    return ""


def _rank(question: Question) -> Callable[[Plan], float]:
    """Whole ones first and in their order; then the fastest by what was asked for."""
    by_latency = question.spec.objective == "latency"

    def rank(plan: Plan) -> float:
        if plan.split == "whole":
            return -inf
        return -(plan.tokens_s if by_latency else plan.full_tokens_s)

    return rank
