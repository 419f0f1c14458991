"""Every way to place one copy of a model, and every way that there is not, with its reason."""

from collections.abc import Callable, Sequence
from math import inf

import msgspec

from actors.placement.by_hand import try_by_hand
from actors.placement.question import Found, Question, knows_none
from actors.placement.shape import Shape
from actors.placement.ways import try_hybrids, try_pipelines, try_tensors, try_whole
from schemas.instance import Split
from schemas.plan import Plan, RefusedPlan
from schemas.split import PAIR, tensor_fits

WAYS: dict[Split, Callable[[Question], Found]] = {
    "whole": try_whole,
    "pipeline": try_pipelines,
    "tensor": try_tensors,
    "hybrid": try_hybrids,
}
SHARED: tuple[Split, ...] = ("pipeline", "tensor", "hybrid")


def previews(question: Question) -> tuple[list[Plan], list[RefusedPlan]]:
    """All plans, the one to choose first, and all refusals."""
    found = [*_tried(question, "whole"), *_shared(question)]
    plans = [plan for plan in found if isinstance(plan, Plan)]
    return sorted(plans, key=_rank(question)), [one for one in found if isinstance(one, RefusedPlan)]


def choose(question: Question) -> Plan | RefusedPlan:
    """The first plan of `previews`; without plans the refusal that least is missing for."""
    refused: list[Plan | RefusedPlan] = []
    for whole in _tried(question, "whole"):  # the first that has room: the others need no predictions
        if isinstance(whole, Plan):
            return whole
        refused.append(whole)
    found = [*refused, *_shared(question)]
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


def _shared(question: Question) -> Found:
    for split in SHARED:
        yield from _tried(question, split)


def _tried(question: Question, split: Split) -> Found:
    """At least one plan or refusal; whole ones in the order of the machines."""
    reason = _not_wished(question, split)
    if reason:
        return iter([RefusedPlan(split=split, reason=reason)])
    if question.spec.split:
        return try_by_hand(question, split)
    return WAYS[split](question)


def _not_wished(question: Question, split: Split) -> str:
    spec, shape = question.spec, question.shape
    wished = "pipeline" if spec.split and spec.strategy == "auto" else spec.strategy
    if wished not in ("auto", split):
        return f"{wished} was asked for"
    if split == "whole":
        return f"at least {spec.min_nodes} nodes were asked for" if spec.min_nodes > 1 else ""
    if split not in question.splits:
        return f"this version cannot run it as a {split} split"
    if split == "hybrid":
        return _no_pairs(question)
    return _too_few_layers(shape, question.fewest()) if split == "pipeline" else ""


def _no_pairs(question: Question) -> str:
    """Why no hybrid can be."""
    shape = question.shape
    if question.older:
        return knows_none(question.older)
    if question.spec.backend != "ring":
        return f"hybrids are joined by ring alone, and {question.spec.backend} was asked for"
    if not tensor_fits(shape.heads, shape.kv_heads, PAIR):
        return f"a pair cannot share its {shape.heads} heads and {shape.kv_heads} heads of keys and values"
    return _too_few_layers(shape, question.fewest(PAIR))


def _too_few_layers(shape: Shape, stages: int) -> str:
    if shape.layers >= stages:
        return ""
    return "nobody has counted its layers yet" if shape.layers == 1 else f"it has {shape.layers} layers only"


def _rank(question: Question) -> Callable[[Plan], float]:
    """Whole ones first and in their order; then the fastest by what was asked for."""
    by_latency = question.spec.objective == "latency"

    def rank(plan: Plan) -> float:
        if plan.split == "whole":
            return -inf
        return -(plan.tokens_s if by_latency else plan.full_tokens_s)

    return rank
