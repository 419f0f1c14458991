"""What the cluster's state says about the models that clients may name."""

from msgspec import Struct

from api.errors import ApiError, unavailable, unknown_model
from api.requests.loss import Loss, runner_lost
from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance
from schemas.model import ModelCard, ModelSpec
from schemas.presence import lost_node
from schemas.refused import without_place
from schemas.state import State
from schemas.version import serving


class Described(Struct, frozen=True):
    """A model that can be given prompts."""

    spec: ModelSpec
    card: ModelCard

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return min(self.spec.context or self.card.context, self.card.context)


class Placement(Struct, frozen=True):
    """Who works on a request: an instance, and which life of its runner."""

    instance: InstanceId
    attempt: int


def described(state: State, name: str) -> Described | None:
    """The model called `name`, as it takes fresh requests; None while nobody has read its files; raises `ApiError`
    (404) if unknown."""
    model = state.models.get(ModelId(name))
    if model is None:
        raise unknown_model(name, state.models)
    spec = serving(state, model)
    card = state.card(spec.id, spec.source)
    return None if card is None else Described(spec, card)


def ready_instances(state: State, model: ModelId) -> list[Instance]:
    return [
        instance
        for instance in state.instances_of(model)
        if instance.status == "ready" and lost_node(state, instance) is None
    ]


def hopeless(state: State, model: ModelId) -> ApiError | None:
    """Why it is no use to wait for `model`: unloaded, without replicas, or failed for good everywhere."""
    if model not in state.models:
        return unknown_model(model, state.models)
    instances = state.instances_of(model)
    if not instances and not state.models[model].spec.replicas:
        return unavailable(
            f"The model '{model}' has no replicas: load it again with one or more.", 60.0, "no_replicas"
        )
    if not instances or any(instance.status != "failed" or instance.retryable for instance in instances):
        return None
    reason = instances[0].reason or "no reason was given"
    return unavailable(f"The model '{model}' cannot be loaded: {reason}", 60.0, "model_failed")


def nowhere(state: State, model: ModelId) -> ApiError | None:
    """Why a fresh request need not wait for `model`: it has no place, and no instance whose nodes are there.

    Not while only nodes are missing that may come back; nor for who waits already: a node may bring its memory back.
    """
    wished = state.models.get(model)
    if wished is None or not wished.unplaced or wished.absent:
        return None
    if any(lost_node(state, instance) is None for instance in state.instances_of(model)):
        return None
    return no_place(model, without_place(wished.unplaced, wished.missing_bytes))


def no_place(model: ModelId, why: str) -> ApiError:
    return unavailable(f"The model '{model}' has no place in this cluster: {why}", 60.0, "no_place")


def lost(state: State, placement: Placement, *, known: bool) -> Loss | None:
    """Why nothing more will come from there; `known`: the instance was in the state before."""
    instance = state.instances.get(placement.instance)
    if instance is None:
        return runner_lost("its instance was stopped") if known else None
    if instance.attempt > placement.attempt:
        why = instance.reason or "no reason was given"
        return runner_lost(f"its runner was started afresh ({why})", instance.fate)
    if instance.attempt == placement.attempt and instance.status == "failed":
        return runner_lost(f"its runner failed: {instance.reason or 'no reason was given'}", instance.fate)
    dead = lost_node(state, instance)
    return None if dead is None else runner_lost(f"the node {dead.name or dead.id} was lost")
