"""Wishes that no cluster could fulfil, found before anything is decided."""

from itertools import pairwise

from schemas.model import ModelSpec


def contradiction(spec: ModelSpec) -> str:
    """What in `spec` goes against something else in it, with the names of both; empty when nothing does."""
    spread = spec.strategy in ("pipeline", "tensor") or spec.min_nodes > 1 or bool(spec.split)
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
    return _split_problem(spec)


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
    if not cuts:
        return ""
    if spec.strategy == "tensor":
        return "strategy is tensor, where every node has a part of each layer: leave out the layers in split"
    if len(cuts) < len(nodes):
        return "split gives layers to some nodes and not to others"
    begins_at_0, ends = cuts[0][0] == 0, all(first < end for first, end in cuts)
    if not (begins_at_0 and ends and all(one[1] == other[0] for one, other in pairwise(cuts))):
        return "split has to give each layer to one node, from layer 0 on and in their order"
    return ""
