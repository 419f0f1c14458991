"""What the leader decides: pure functions of the state, a command, and what has lasted long enough."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

from actors.master.copies import scale
from actors.master.demand import demand, rest
from actors.master.leftovers import forget_node
from actors.master.placement import NoPlace, Placement, fits, place, without_hybrids
from actors.master.ripe import Ripe
from actors.master.rollover import is_older
from actors.master.wishes import contradiction
from actors.placement.question import knows_none
from schemas.commands import (
    DemandModel,
    DrainNode,
    ForgetNode,
    LoadModel,
    MasterCommand,
    RestartInstance,
    UnloadModel,
)
from schemas.events import (
    Decided,
    InstanceDeleted,
    InstanceRetried,
    KnownEvent,
    ModelDesired,
    ModelRemoved,
    NodeDrained,
    NodeLost,
    Recorded,
)
from schemas.ids import InstanceId, ModelId, new_instance_id
from schemas.instance import Instance
from schemas.nearest import did_you_mean
from schemas.node_names import in_names
from schemas.presence import is_alive, is_whole
from schemas.refused import Refused
from schemas.revision import as_meant
from schemas.state import State, apply

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
NOTHING = Ripe()
Name = TypeVar("Name", bound=str)


def decide(state: State, command: MasterCommand, ripe: Ripe = NOTHING) -> list[Decided] | Refused:
    """The events that carry the command out; none when things are so already."""
    match command:
        case LoadModel():
            return _load(state, command)
        case UnloadModel():
            if command.model not in state.models:
                return unknown_model(command.model, state)
            return [ModelRemoved(model=command.model)]
        case DemandModel():
            model = state.models.get(command.model)
            if model is None:
                return unknown_model(command.model, state)
            return demand(model, state, ripe, command.waited_s)
        case DrainNode():
            node = state.nodes.get(command.node)
            if node is None:
                return _unknown("node", command.node, state.nodes)
            wished = not command.undo
            return [NodeDrained(node=node.id, draining=wished)] if node.draining != wished else []
        case ForgetNode():
            gone = state.nodes.get(command.node)
            if gone is None:
                return _unknown("node", command.node, state.nodes)
            forgotten = forget_node(gone, state)
            return forgotten if isinstance(forgotten, Refused) else list(forgotten)
        case RestartInstance():
            instance = state.instances.get(command.instance)
            if instance is None:
                return _unknown("instance", command.instance, state.instances)
            retried = list(_retry(instance, state, "restart was asked for"))
            return retried or _no_place(instance, state)


def _load(state: State, command: LoadModel) -> list[Decided] | Refused:
    spec = as_meant(state, command.spec)
    named = [spec.node, *spec.exclude, *(share.node for share in spec.split)]
    for node in named:
        if node is not None and node not in state.nodes:
            return _unknown("node", node, state.nodes)
    if problem := contradiction(spec):
        return Refused("bad_request", in_names(problem, state))
    if spec.strategy == "hybrid" and (older := without_hybrids(state)):
        return Refused("conflict", in_names(knows_none(older), state))
    before = state.models.get(spec.id)
    if before is None or before.spec != spec:
        return [ModelDesired(spec=spec)]
    failed = (instance for instance in state.instances_of(spec.id) if instance.status == "failed")
    return [event for instance in failed for event in _retry(instance, state, "load was asked for again")]


def heal(state: State, ripe: Ripe, new_id: Callable[[], InstanceId] = new_instance_id) -> list[Decided]:
    """What brings the cluster closer to what is wished for, one step for each thing that is wrong."""
    return (
        list(_lose(state, ripe))  # places are chosen when the state knows of the loss,
        or _in_turn(state, state.instances, lambda one, now: _mend(now.instances[one], now, ripe))
        or list(rest(state, ripe))
        or _in_turn(state, state.models, lambda one, now: scale(now.models[one], now, ripe, new_id))
    )


def _in_turn(
    state: State, names: Iterable[Name], step: Callable[[Name, State], Iterator[Decided]]
) -> list[Decided]:
    """What `step` decides about each; what was decided about one is so for the next, or all would take the same place."""
    decided: list[Decided] = []
    for name in names:
        for event in list(step(name, state)):
            decided.append(event)
            state = apply(state, Recorded(seq=state.seq + 1, time=0.0, event=cast("KnownEvent", event)))
    return decided


def _lose(state: State, ripe: Ripe) -> Iterator[Decided]:
    for node in state.nodes.values():
        if node.alive and node.id in ripe.lost:
            yield NodeLost(node=node.id, incarnation=node.incarnation, why="its lease ran out")


def _mend(instance: Instance, state: State, ripe: Ripe) -> Iterator[Decided]:
    model = state.models.get(instance.spec.id)
    if model is None:
        yield InstanceDeleted(instance=instance.id, why="the model was unloaded")
    elif model.wanted and not instance.served and is_older(instance, model):
        yield InstanceDeleted(instance=instance.id, why="the model was changed")
    elif instance.retired and (why := _over(instance, state, ripe)):
        yield InstanceDeleted(instance=instance.id, why=f"{instance.retired}; {why}")
    elif lost := [node for node in instance.nodes if not is_alive(state, node)]:
        yield from _retry(instance, state, f"node {lost[0]} was lost")
    elif _outgrown(instance, state):
        yield from _move(instance, state)
    elif instance.status == "failed" and instance.id in ripe.failed:
        yield from _retry(instance, state, f"it failed: {instance.reason}")


def _over(instance: Instance, state: State, ripe: Ripe) -> str:
    """Why a retired instance need not be there any longer."""
    if instance.id in ripe.drained:
        return "it has ended all that it had"
    if instance.id in ripe.overdue:
        return "it had enough time to end what it has"
    if not is_whole(state, instance):
        return "its node was lost"
    return "it failed" if instance.status == "failed" and not instance.retryable else ""


def _outgrown(instance: Instance, state: State) -> bool:
    """Its model was read after it was placed, and it cannot be where or as it is."""
    cards = (state.cards.get(model) for model in (instance.spec.id, instance.spec.draft_id))
    begins = instance.status not in ("ready", "failed")
    read_since = any(card is not None and card.seq > instance.seq for card in cards)
    return begins and read_since and not fits(instance, state)


def _move(instance: Instance, state: State) -> Iterator[Decided]:
    why = "its files were read, and its place is not what it takes"
    moved = list(_retry(instance, state, why))
    yield from moved or [InstanceDeleted(instance=instance.id, why=why)]


def _retry(instance: Instance, state: State, why: str) -> Iterator[Decided]:
    placement = place(instance.spec, state, but=instance.id)
    if isinstance(placement, Placement):
        yield InstanceRetried(
            instance=instance.id,
            attempt=instance.attempt + 1,
            shards=placement.shards,
            split=placement.split,
            why=why,
        )


def _no_place(instance: Instance, state: State) -> Refused:
    placement = place(instance.spec, state, but=instance.id)
    reason = placement.reason if isinstance(placement, NoPlace) else "nothing is to be done"
    return Refused("conflict", f"instance {instance.id} cannot be started afresh: {reason}")


def backoff_s(failures: int) -> float:
    """Seconds until the next attempt after `failures` failures in a row: the first is tried again at once."""
    return 0.0 if failures <= 1 else min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 2, 20))


def unknown_model(model: ModelId, state: State) -> Refused:
    return _unknown("model", model, state.models)


def _unknown(kind: str, name: str, known: Iterable[str]) -> Refused:
    return Refused("not_found", f"there is no {kind} {name}{did_you_mean(name, known)}")
