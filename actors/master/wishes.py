"""Wishes that no cluster could fulfil, found before anything is decided."""

from itertools import pairwise

from schemas.model import DRAFT_TOKENS, ModelSpec, SimulatedSpeed
from schemas.split import PAIR

USUAL_SPEED = SimulatedSpeed()


def contradiction(spec: ModelSpec) -> str:
    """What in `spec` goes against something else in it, with the names of both; empty when nothing does."""
    spread = spec.strategy not in ("auto", "whole") or spec.min_nodes > 1 or bool(spec.split)
    if problem := _demand_problem(spec):
        return problem
    if spec.engine == "mlx" and spec.simulated is not None:
        return "simulated speeds are for the engine `simulated`"
    if spec.draft and spec.engine == "simulated":
        return "the engine `simulated` has no draft: leave out draft"
    if spec.draft and spread:
        return "a model with a draft is not split: leave out draft, or strategy, min_nodes and split"
    if spec.engine == "simulated" and spread:
        return "the engine `simulated` is not split: leave out strategy, min_nodes and split"
    if spec.node is not None and spread:
        return (
            f"node says that only {spec.node} may carry it, and strategy, min_nodes or split that several do"
        )
    if spec.strategy == "whole" and spread:
        return "strategy is whole, and min_nodes or split say that several nodes share a copy"
    if spec.node in spec.exclude and spec.node is not None:
        return f"node {spec.node} is in exclude as well"
    return _split_problem(spec) or _idle_problem(spec, spread=spread)


def _idle_problem(spec: ModelSpec, *, spread: bool) -> str:
    """What was wished for, and would change nothing beside the rest."""
    simulated = spec.engine == "simulated"
    if simulated and spec.cache_bytes is not None:
        return "cache_bytes has no meaning for the engine `simulated`: say cache_tokens with its speeds"
    if simulated and spec.batch_bytes is not None:
        return "batch_bytes has no meaning for the engine `simulated`, which has no keys and values"
    speed = spec.simulated or USUAL_SPEED
    if spec.slots is not None and speed.slots not in (USUAL_SPEED.slots, spec.slots):
        return f"slots is {spec.slots}, and {speed.slots} with the simulated speeds"
    if spec.draft_tokens != DRAFT_TOKENS and not spec.draft:
        return "draft_tokens only goes with draft"
    alone = _alone(spec) if not spread else ""
    if spec.backend != "ring" and spec.strategy == "hybrid":
        return f"strategy is hybrid, whose pairs are joined by ring alone, and backend is {spec.backend}"
    if spec.backend != "ring" and alone:
        return f"backend joins the parts of a split model, and {alone}"
    if spec.objective != "latency" and alone and spec.strategy != "whole":
        return f"objective chooses between places and splits, and {alone}"
    if spec.objective != "latency" and any(share.layers for share in spec.split):
        return "objective chooses between splits, and split gives the layers to the nodes already"
    return ""


def _alone(spec: ModelSpec) -> str:
    """Why it is never split; empty: it may be."""
    if spec.engine == "simulated":
        return "the engine `simulated` is not split"
    if spec.draft:
        return "a model with a draft is not split"
    if spec.node is not None:
        return f"node says that {spec.node} alone carries it"
    return "strategy is whole" if spec.strategy == "whole" else ""


def _demand_problem(spec: ModelSpec) -> str:
    if spec.on_demand and not spec.replicas:
        return "on_demand says that a request loads it, and replicas that no copy is wanted then"
    if not spec.on_demand and spec.idle_timeout_s is not None:
        return "idle_timeout_s only goes with on_demand: without it a model stays loaded"
    if not spec.on_demand and spec.keep:
        return "keep only goes with on_demand: without it a model stays loaded"
    if spec.keep and spec.idle_timeout_s is not None:
        return "keep says that it stays once it was loaded, and idle_timeout_s that it does not"
    return ""


def _split_problem(spec: ModelSpec) -> str:
    nodes = [share.node for share in spec.split]
    cuts = [share.layers for share in spec.split if share.layers is not None]
    if len(nodes) == 1:
        return "split names one node: name two or more, or say node"
    if spec.split and spec.min_nodes > len(nodes):
        return f"min_nodes is {spec.min_nodes}, and split names {len(nodes)} nodes"
    for node in nodes:
        if nodes.count(node) > 1:
            return f"split names node {node} twice"
        if node in spec.exclude:
            return f"node {node} of the split is in exclude as well"
    if problem := _pair_problem(spec):
        return problem
    if not cuts:
        return ""
    if spec.strategy == "tensor":
        return "strategy is tensor, where every node has a part of each layer: leave out the layers in split"
    if len(cuts) < len(nodes):
        return "split gives layers to some nodes and not to others"
    owner, cuts = ("pair", cuts[::PAIR]) if spec.strategy == "hybrid" else ("node", cuts)
    begins_at_0, ends = cuts[0][0] == 0, all(first < end for first, end in cuts)
    if not (begins_at_0 and ends and all(one[1] == other[0] for one, other in pairwise(cuts))):
        return f"split has to give each layer to one {owner}, from layer 0 on and in their order"
    return ""


def _pair_problem(spec: ModelSpec) -> str:
    """Of a hybrid by hand."""
    if spec.strategy != "hybrid" or not spec.split:
        return ""
    count = len(spec.split)
    if count % PAIR or count < 2 * PAIR:
        return f"strategy is hybrid, which takes nodes in pairs, two pairs or more, and split names {count}"
    for one, other in zip(spec.split[::PAIR], spec.split[1::PAIR], strict=True):
        if one.layers != other.layers:
            pair = f"nodes {one.node} and {other.node} are a pair of the hybrid"
            return f"{pair}: split has to give both the same layers"
    return ""
