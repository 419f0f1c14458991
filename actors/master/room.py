"""Room for a model that has none: what leaves already, and what may be made to leave for it."""

from collections.abc import Iterable, Sequence

import msgspec

from actors.master.placement import Placement, place
from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance
from schemas.model import ModelSpec
from schemas.state import State


def fits_without(spec: ModelSpec, state: State, gone: Iterable[InstanceId] = ()) -> bool:
    """Whether a copy has a place when what leaves has left, and the instances `gone` with it."""
    left_out = {*gone, *(one.id for one in state.instances.values() if _leaves(one, state))}
    there = {key: one for key, one in state.instances.items() if key not in left_out}
    return isinstance(place(spec, msgspec.structs.replace(state, instances=there)), Placement)


def victims(spec: ModelSpec, state: State, idle: Sequence[ModelId]) -> list[ModelId] | None:
    """Which of the `idle` models, the least recently used first, have to be unloaded for a copy; None: all do not suffice.

    None of them when what leaves already is enough.
    """
    others = [model for model in idle if model != spec.id]
    if not fits_without(spec, state, carriers(others, state)):
        return None
    chosen: list[ModelId] = []
    while not fits_without(spec, state, carriers(chosen, state)):
        chosen.append(others.pop(0))
    for model in list(chosen):  # one that was used longer ago may turn out to be of no use
        rest = [each for each in chosen if each != model]
        if fits_without(spec, state, carriers(rest, state)):
            chosen = rest
    return chosen


def carriers(models: Iterable[ModelId], state: State) -> list[InstanceId]:
    """All copies of these."""
    wanted = set(models)
    return [one.id for one in state.instances.values() if one.spec.id in wanted]


def _leaves(instance: Instance, state: State) -> bool:
    model = state.models.get(instance.spec.id)
    return bool(instance.retired) or model is None or not model.wanted
