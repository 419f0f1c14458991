"""What a node was told to load when it was started."""

from collections.abc import Iterable

import structlog

from bus.bus import Bus
from bus.commands import command
from bus.errors import BusError
from schemas.commands import Answer, LoadModel
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.revision import unmarked

log = structlog.get_logger()

LEADER_S = 30.0
"""How long a leader is waited for; seconds."""


async def load_first_models(bus: Bus, specs: Iterable[ModelSpec], *, by_default: bool) -> None:
    """What was asked for is loaded; what is so by default only where the cluster has nothing yet."""
    sources = {model.spec.id: model.spec.source for model in bus.view.state.models.values()}
    if by_default and sources:
        return
    for spec in specs:
        known = sources.get(spec.id)
        answer = await _ask(bus, spec) if known is None else _namesake(spec, known)
        sources.setdefault(spec.id, spec.source)
        if isinstance(answer, Refused):
            log.error("model.refused", model=spec.id, reason=answer.reason)


def _namesake(spec: ModelSpec, source: str) -> Refused | None:
    """Why a model cannot have the name of another; what is known with its source stays as it is."""
    if unmarked(source) == unmarked(spec.source):
        return None
    return Refused(
        "conflict",
        f"the cluster serves another model by this name, from {source}; "
        f"give this one a name of its own: actors load {spec.source} --id NAME",
    )


async def _ask(bus: Bus, spec: ModelSpec) -> Answer:
    try:
        return await command(bus, LoadModel(spec=spec), deadline_s=LEADER_S)
    except BusError as away:
        return Refused("unavailable", str(away))
