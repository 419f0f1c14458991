"""Which models a node needs, and for which lives of their instances."""

from collections import defaultdict

from msgspec import Struct

from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance
from schemas.state import State

Life = tuple[InstanceId, int]
"""An instance and its attempt."""


class Wanted(Struct, frozen=True):
    """One model that a node needs, and who needs it."""

    source: str
    lives: frozenset[Life]


def wanted(state: State, node: NodeId) -> dict[ModelId, Wanted]:
    """One source a model: while a model changes its source, the one that is desired now."""
    placed: defaultdict[ModelId, list[Instance]] = defaultdict(list)
    for instance in state.instances.values():
        if node in instance.nodes:
            placed[instance.spec.id].append(instance)
    return {model: _of_one_source(state, model, instances) for model, instances in placed.items()}


def _of_one_source(state: State, model: ModelId, instances: list[Instance]) -> Wanted:
    desired = state.models.get(model)
    sources = {instance.spec.source for instance in instances}
    latest = max(instances, key=lambda instance: instance.seq).spec.source
    source = desired.spec.source if desired is not None and desired.spec.source in sources else latest
    lives = ((one.id, one.attempt) for one in instances if one.spec.source == source)
    return Wanted(source, frozenset(lives))
