"""What the leader decides: pure functions of the state, a command, and what has lasted long enough."""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from actors.master.placement import NoPlace, Placement, place
from schemas.commands import LoadModel, MasterCommand, RestartInstance, UnloadModel
from schemas.events import (
    Decided,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetried,
    ModelDesired,
    ModelRemoved,
    NodeLost,
)
from schemas.ids import InstanceId, NodeId, new_instance_id
from schemas.instance import Instance
from schemas.nearest import did_you_mean
from schemas.refused import Refused
from schemas.state import Model, State

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


class Ripe(Struct, frozen=True):
    """What has been wrong for long enough to act upon."""

    lost: frozenset[NodeId] = frozenset()
    """Nodes that hold no lease."""
    failed: frozenset[InstanceId] = frozenset()
    """Failed instances whose backoff is over."""


def decide(state: State, command: MasterCommand) -> list[Decided] | Refused:
    """The events that carry the command out; none when things are so already."""
    match command:
        case LoadModel():
            return _load(state, command)
        case UnloadModel():
            if command.model not in state.models:
                return _unknown("model", command.model, state.models)
            return [ModelRemoved(model=command.model)]
        case RestartInstance():
            instance = state.instances.get(command.instance)
            if instance is None:
                return _unknown("instance", command.instance, state.instances)
            retried = list(_retry(instance, state, "restart was asked for"))
            return retried or _no_place(instance, state)


def _load(state: State, command: LoadModel) -> list[Decided] | Refused:
    spec = command.spec
    if spec.node is not None and spec.node not in state.nodes:
        return _unknown("node", spec.node, state.nodes)
    if spec.engine == "mlx" and spec.simulated is not None:
        return Refused("bad_request", "simulated speeds are for the engine `simulated`")
    before = state.models.get(spec.id)
    if before is None or before.spec != spec:
        return [ModelDesired(spec=spec)]
    failed = (instance for instance in state.instances_of(spec.id) if instance.status == "failed")
    return [event for instance in failed for event in _retry(instance, state, "load was asked for again")]


def heal(state: State, ripe: Ripe, new_id: Callable[[], InstanceId] = new_instance_id) -> list[Decided]:
    """What brings the cluster closer to what is wished for, one step for each thing that is wrong."""
    return (
        list(_lose(state, ripe))  # places are chosen when the state knows of the loss,
        or [event for instance in state.instances.values() for event in _mend(instance, state, ripe)]
        or [event for model in state.models.values() for event in _scale(model, state, new_id)]
    )


def _lose(state: State, ripe: Ripe) -> Iterator[Decided]:
    for node in state.nodes.values():
        if node.alive and node.id in ripe.lost:
            yield NodeLost(node=node.id, incarnation=node.incarnation, why="its lease ran out")


def _mend(instance: Instance, state: State, ripe: Ripe) -> Iterator[Decided]:
    model = state.models.get(instance.spec.id)
    if model is None:
        yield InstanceDeleted(instance=instance.id, why="the model was unloaded")
    elif model.spec.replicas and _differ(model, instance):
        yield InstanceDeleted(instance=instance.id, why="the model was changed")
    elif lost := [node for node in instance.nodes if not is_alive(node, state)]:
        yield from _retry(instance, state, f"node {lost[0]} was lost")
    elif instance.id in ripe.failed:
        yield from _retry(instance, state, f"it failed: {instance.reason}")


def _differ(model: Model, instance: Instance) -> bool:
    return any(
        getattr(model.spec, name) != getattr(instance.spec, name)
        for name in model.spec.__struct_fields__
        if name != "replicas"
    )


def _retry(instance: Instance, state: State, why: str) -> Iterator[Decided]:
    placement = place(instance.spec, state, but=instance.id)
    if isinstance(placement, Placement):
        yield InstanceRetried(
            instance=instance.id, attempt=instance.attempt + 1, shards=placement.shards, why=why
        )


def _scale(model: Model, state: State, new_id: Callable[[], InstanceId]) -> Iterator[Decided]:
    """One instance more, or all that are too many: each placement counts in the next."""
    there = state.instances_of(model.spec.id)
    if len(there) < model.spec.replicas:
        placement = place(model.spec, state)
        if isinstance(placement, Placement):
            yield InstancePlaced(instance=new_id(), spec=model.spec, shards=placement.shards)
        return
    worst_first = sorted(there, key=lambda instance: (instance.status == "ready", -instance.seq))
    for instance in worst_first[: len(there) - model.spec.replicas]:
        yield InstanceDeleted(instance=instance.id, why=f"{model.spec.replicas} replicas are wanted")


def _no_place(instance: Instance, state: State) -> Refused:
    placement = place(instance.spec, state, but=instance.id)
    reason = placement.reason if isinstance(placement, NoPlace) else "nothing is to be done"
    return Refused("conflict", f"instance {instance.id} cannot be started afresh: {reason}")


def is_alive(node: NodeId, state: State) -> bool:
    return node in state.nodes and state.nodes[node].alive


def backoff_s(failures: int) -> float:
    """Seconds until the next attempt after `failures` failures in a row: the first is tried again at once."""
    return 0.0 if failures <= 1 else min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 2, 20))


def _unknown(kind: str, name: str, known: Iterable[str]) -> Refused:
    return Refused("not_found", f"there is no {kind} {name}{did_you_mean(name, known)}")
