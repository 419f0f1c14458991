"""Where a model goes: pure, from the state alone."""

from msgspec import Struct

from schemas.ids import InstanceId, NodeId
from schemas.instance import Shard
from schemas.model import ModelSpec
from schemas.state import Node, State

MEMORY_SHARE = 0.8
"""How much of a node's memory models may fill."""
OVERHEAD = 1.2
"""Weights, and what computing with them takes besides."""


class Placement(Struct, frozen=True):
    """The nodes that carry a new instance."""

    shards: tuple[Shard, ...]


class NoPlace(Struct, frozen=True):
    """No node can carry it; `reason` says what is missing."""

    reason: str


def place(spec: ModelSpec, state: State, but: InstanceId | None = None) -> Placement | NoPlace:
    """The node with most room for one more copy of `spec`; the instance `but` is counted as gone."""
    workers = [node for node in state.nodes.values() if node.alive and "worker" in node.roles]
    if spec.node is not None:
        workers = [node for node in workers if node.id == spec.node]
        if not workers:
            return NoPlace(f"{spec.id} may only run on node {spec.node}, which is not there")
    if not workers:
        return NoPlace("no node with a worker is there: start one with `actors up`")
    need = needed_bytes(spec, state)
    free = {node.id: free_bytes(node, state, but) for node in workers}
    fitting = [node for node in workers if free[node.id] >= need]
    if not fitting:
        most = max(free.values())
        return NoPlace(f"{spec.id} needs {need} bytes of memory, the roomiest node has {most} left")
    carried = {node.id: len(instances_on(node.id, state, but)) for node in fitting}
    best = min(fitting, key=lambda node: (carried[node.id], -free[node.id], node.id))
    return Placement((Shard(node=best.id),))


def needed_bytes(spec: ModelSpec, state: State) -> int:
    """Memory for one copy; 0 while nobody has read the model's files."""
    card = state.cards.get(spec.id)
    return 0 if card is None or spec.engine == "simulated" else int(card.card.weights_bytes * OVERHEAD)


def instances_on(node: NodeId, state: State, but: InstanceId | None = None) -> list[ModelSpec]:
    """What a node carries, counted once for each shard."""
    return [
        instance.spec
        for instance in state.instances.values()
        for shard in instance.shards
        if shard.node == node and instance.id != but
    ]


def free_bytes(node: Node, state: State, but: InstanceId | None = None) -> int:
    """Memory that models may still fill on a node."""
    profile = node.profile
    usable = int((profile.accelerator_memory_bytes or profile.memory_bytes) * MEMORY_SHARE)
    return usable - sum(needed_bytes(spec, state) for spec in instances_on(node.id, state, but))
