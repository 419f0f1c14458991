"""How many copies of a model there are, and of which form: one more, those that are too many, or why none can be."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from actors.master.demand import dismiss, evicted
from actors.master.placement import NoPlace, Placement, place
from actors.master.ripe import Ripe
from actors.master.rollover import is_older, make_way, retire
from actors.master.room import victims
from schemas.events import Decided, InstanceDeleted, InstancePlaced, ModelIdled, ModelUnplaced
from schemas.ids import InstanceId
from schemas.instance import Instance
from schemas.presence import is_draining, is_whole
from schemas.state import Model, State


def scale(model: Model, state: State, ripe: Ripe, new_id: Callable[[], InstanceId]) -> Iterator[Decided]:
    """One instance more, or all that are too many: each placement counts in the next."""
    if model.spec.on_demand and not model.wanted:
        yield from dismiss(model, state)
        return
    serving = [one for one in state.instances_of(model.spec.id) if not one.retired]
    older = [one for one in serving if model.wanted and is_older(one, model)]
    newer = [one for one in serving if one not in older]
    leaving = [one for one in newer if is_draining(state, one)]
    there = [one for one in newer if one not in leaving]
    stranded = [one for one in there if not is_whole(state, one)]
    if len(there) > model.wanted:
        yield from _fewer(there, model.wanted)
    elif stranded:
        yield from _elsewhere(stranded[0], model, state, ripe, older, newer)
    elif len(there) < model.wanted:
        yield from _one_more(model, state, ripe, older, newer, new_id)
    else:
        failed = next((one for one in there if one.status == "failed" and one.retryable), None)
        if failed is None:
            yield from _say(model, None)
        else:
            yield from _elsewhere(failed, model, state, ripe, older, newer)
        if all(one.status == "ready" for one in there):  # until then the old ones serve
            yield from _relieve(leaving, older)


def _fewer(there: Sequence[Instance], wanted: int) -> Iterator[Decided]:
    worst_first = sorted(there, key=lambda instance: (instance.status == "ready", -instance.seq))
    for instance in worst_first[: len(there) - wanted]:
        yield InstanceDeleted(instance=instance.id, why=f"{wanted} replicas are wanted")


def _relieve(leaving: Sequence[Instance], older: Sequence[Instance]) -> Iterator[Decided]:
    """All that is wanted is ready: those whose place it takes may go."""
    for instance in leaving:
        yield InstanceDeleted(instance=instance.id, why="its node is drained, and others serve the model")
    yield from retire(older, "the model was changed, and what is wanted now is ready")


def _one_more(
    model: Model,
    state: State,
    ripe: Ripe,
    older: Sequence[Instance],
    newer: Sequence[Instance],
    new_id: Callable[[], InstanceId],
) -> Iterator[Decided]:
    placement = place(model.spec, state)
    if isinstance(placement, Placement):
        yield InstancePlaced(
            instance=new_id(), spec=model.spec, shards=placement.shards, split=placement.split
        )
        return
    room = _room(model, state, ripe, older, newer, placement)
    if room is not None:
        yield from room
    elif model.spec.on_demand and not newer and not older and not placement.absent:
        yield ModelIdled(model=model.spec.id, why=placement.reason)
    else:
        yield from _say(model, placement)


def _elsewhere(
    one: Instance,
    model: Model,
    state: State,
    ripe: Ripe,
    older: Sequence[Instance],
    newer: Sequence[Instance],
) -> Iterator[Decided]:
    """It is to be tried again: what makes room for that, or why it has no place. Nothing makes way for a form that has
    only failed."""
    others = {key: each for key, each in state.instances.items() if key != one.id}
    left = msgspec.structs.replace(state, instances=others)
    lack = place(model.spec, left)
    beside = [each for each in newer if each.id in others]
    serves = any(each.status == "ready" for each in beside)
    ways = older if serves or one.status != "failed" else ()
    room = _room(model, left, ripe, ways, beside, lack) if isinstance(lack, NoPlace) else None
    yield from _say(model, lack) if room is None else room


def _room(
    model: Model,
    state: State,
    ripe: Ripe,
    older: Sequence[Instance],
    newer: Sequence[Instance],
    lack: NoPlace,
) -> list[Decided] | None:
    """What makes room for one more copy, and nothing while it is being made; None: nothing does."""
    if lack.absent:
        return None
    makers = victims(model.spec, state, ripe.idle)
    if makers is not None:
        return evicted(makers, model.spec.id)
    lives = [one for one in newer if is_whole(state, one)]
    return make_way(model, state, older, lives, lack) if older else None


def _say(model: Model, lack: NoPlace | Placement | None) -> Iterator[Decided]:
    """Why it has no place, or that it has one again: once."""
    lack = lack if isinstance(lack, NoPlace) else NoPlace("")
    if lack != NoPlace(model.unplaced, model.missing_bytes, model.absent):
        yield ModelUnplaced(
            model=model.spec.id, reason=lack.reason, missing_bytes=lack.missing_bytes, absent=lack.absent
        )
