"""Models that are loaded on demand: when they are loaded, and which are unloaded, and never one that serves."""

from collections.abc import Iterator, Sequence

from actors.master.placement import NoPlace, place
from actors.master.ripe import Ripe
from actors.master.room import carriers, fits_without, victims
from schemas.events import Decided, InstanceDeleted, InstanceRetired, ModelDemanded, ModelIdled
from schemas.ids import ModelId
from schemas.refused import Refused, without_place
from schemas.state import Model, State

PATIENCE_S = 10.0
"""Who waits for so long while all others are in use is told that there is no room; seconds."""


def demand(model: Model, state: State, ripe: Ripe, waited_s: float) -> list[Decided] | Refused:
    """Somebody waits for `model`: it is loaded, if need be in the place of idle ones; refused when there is no room, nor
    will be soon."""
    if model.wanted or not model.spec.on_demand:
        return []
    lack = place(model.spec, state)
    if not isinstance(lack, NoPlace) or lack.absent:
        return [ModelDemanded(model=model.spec.id)]
    makers = victims(model.spec, state, ripe.idle)
    if makers is None and waited_s < PATIENCE_S and _may_come(model, state):
        return []  # whoever waits says so again
    if makers is None:
        return Refused("no_place", without_place(lack.reason, lack.missing_bytes))
    return [*evicted(makers, model.spec.id), ModelDemanded(model=model.spec.id)]


def _may_come(model: Model, state: State) -> bool:
    """Whether there is room when others that are loaded on demand are idle: they may be in a moment."""
    others = [each.spec.id for each in state.models.values() if each.spec.idle_after_s is not None]
    return fits_without(model.spec, state, carriers(others, state))


def evicted(makers: Sequence[ModelId], maker_of: ModelId) -> list[Decided]:
    return [ModelIdled(model=each, why=f"it was idle, and makes room for {maker_of}") for each in makers]


def rest(state: State, ripe: Ripe) -> Iterator[Decided]:
    """What nobody has used for its time is unloaded."""
    for model in state.models.values():
        after_s = model.spec.idle_after_s
        if model.spec.id in ripe.unused and after_s is not None and model.wanted:
            yield ModelIdled(model=model.spec.id, why=f"nobody has used it for {after_s:g} s")


def dismiss(model: Model, state: State) -> Iterator[Decided]:
    """No copy of it is wanted now: those that may have taken a request end it first."""
    why = model.idled_why or "no copy of it is wanted"
    for one in state.instances_of(model.spec.id):
        if one.status != "ready":
            yield InstanceDeleted(instance=one.id, why=why)
        elif not one.retired:
            yield InstanceRetired(instance=one.id, why=why)
