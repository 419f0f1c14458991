"""Which copies of its model may work on a request: those of the version that its prompt was made for."""

from api.catalogue import ready_instances
from api.errors import ApiError, unavailable
from api.requests.loss import LOST_RETRY_S
from api.requests.request import InFlight
from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.state import State
from schemas.version import Door, door_of, serving, version_of


def able(state: State, request: InFlight) -> list[Instance]:
    """Ready instances that it may be offered to; an answer that was begun goes on at a retired one too."""
    ready, spec = ready_instances(state, request.model), request.spec
    if spec is None:
        return ready
    if request.begun:
        return [one for one in ready if version_of(one.spec) == version_of(spec)]
    return [one for one in ready if not one.retired and door_of(one.spec) == door_of(spec)]


def open_door(state: State, model: ModelId) -> Door | None:
    """What fresh requests are made for now; None: there is no such model."""
    wished = state.models.get(model)
    return None if wished is None else door_of(serving(state, wished))


def outdated(request: InFlight, door: Door | None) -> bool:
    """Its prompt was made for another door than is open now, and nothing has come of it: it is made anew."""
    if request.spec is None or request.placement is not None or request.over or request.begun:
        return False
    return door not in (None, door_of(request.spec))


def queues(request: InFlight, door: Door | None) -> bool:
    """Whether what is in the queue of its model now is of its version."""
    return request.spec is None or door is None or door[0] == version_of(request.spec)


def stray(request: InFlight, door: Door | None) -> bool:
    """It goes on with an answer, and waits in a queue out of which nobody takes its version any more."""
    return request.begun and request.current.queued is not None and not queues(request, door)


def orphaned(state: State, request: InFlight, door: Door | None) -> ApiError | None:
    """No copy of the version that began the answer is left, or will be: other weights would go on with it."""
    model = state.models.get(request.model)
    if request.spec is None or model is None or not request.begun or queues(request, door):
        return None
    version = version_of(request.spec)
    if version_of(model.spec) == version or any(
        version_of(one.spec) == version and (one.status != "failed" or one.retryable)
        for one in state.instances_of(request.model)
    ):
        return None
    return unavailable(
        f"The answer broke off: it was begun by '{request.model}' from {request.spec.source}, which is served no more, "
        f"and {model.spec.source} is another version. Send the request again.",
        LOST_RETRY_S,
        "version_gone",
    )
