"""Which version of a model a copy is of: what was made for one version is not gone on with by another."""

from functools import lru_cache
from hashlib import sha256

from schemas.instance import Instance
from schemas.model import EngineName, ModelSpec
from schemas.presence import lost_node
from schemas.state import Model, State

HOW_MANY = ("replicas", "on_demand", "idle_timeout_s", "keep")
"""What a spec says of the number of its copies, and when there are any: it changes none of them."""
Door = tuple[str, int | None]
"""What a task is made for: a version, and the context that was asked for."""


def version_of(spec: ModelSpec) -> str:
    """Names weights and engine: an answer that was begun with them goes on with no others."""
    return _digest(spec.engine, spec.source)


@lru_cache(maxsize=1024)
def _digest(engine: EngineName, source: str) -> str:
    return sha256(f"{engine}\0{source}".encode()).hexdigest()[:12]


def door_of(spec: ModelSpec) -> Door:
    """Equal doors take each other's tasks."""
    return version_of(spec), spec.context


def same_form(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether copies of both are alike; how many there are to be does not matter."""
    return all(
        getattr(one, name) == getattr(other, name) for name in one.__struct_fields__ if name not in HOW_MANY
    )


def serving(state: State, model: Model) -> ModelSpec:
    """What fresh requests are made for: as it is wished for, but as it was while older copies serve until that is ready."""
    wished, older = door_of(model.spec), None
    for one in state.instances.values():
        if (
            one.spec.id != model.spec.id
            or one.status != "ready"
            or one.retired
            or lost_node(state, one) is not None
            or door_of(one.spec) == wished
        ):
            continue
        if older is None or one.seq > older.seq:
            older = one
    return model.spec if older is None else older.spec


def pulls(state: State, instance: Instance) -> bool:
    """Whether an instance takes what waits in its model's queue, where the tasks of one version alone are put."""
    model = state.models.get(instance.spec.id)
    if model is None or instance.retired:
        return False
    return door_of(serving(state, model)) == door_of(instance.spec)
