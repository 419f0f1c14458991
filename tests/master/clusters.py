"""States of clusters for tests of decisions: events are applied as the bus would number them."""

from itertools import count

import msgspec

from actors.master.decisions import heal
from actors.master.ripe import Ripe
from schemas.events import Event, ModelDescribed, Recorded, RunnerReported
from schemas.ids import InstanceId
from schemas.model import ModelCard, ModelSpec
from schemas.state import State, apply
from tests.facts import GIB

NOTHING = Ripe()
_ids = (InstanceId(f"i{number}") for number in count())


def after(state: State, *events: Event) -> State:
    for event in events:
        state = apply(state, Recorded(seq=state.seq + 1, time=float(state.seq), event=event))  # type: ignore[arg-type]
    return state


def described(spec: ModelSpec, gib: int = 10) -> ModelDescribed:
    """Its files were read: so many GiB, of which placement makes 1.2 times as many."""
    card = ModelCard(
        architecture="llama",
        parameters=1,
        weights_bytes=gib * GIB,
        vocabulary=8,
        context=16,
        eos_ids=(0,),
        artifact="a",
    )
    return ModelDescribed(model=spec.id, source=spec.source, card=card)


def ready(state: State, *instances: InstanceId) -> State:
    """These, or all, have loaded."""
    for one in [state.instances[key] for key in instances or state.instances]:
        if one.status != "ready":
            report = RunnerReported(
                instance=one.id, node=one.shards[0].node, attempt=one.attempt, status="ready"
            )
            state = after(state, report)
    return state


class Healer:
    """Heals until nothing is left to be done, and remembers what was decided."""

    def __init__(self) -> None:
        self.decided: list[Event] = []

    def heal(self, state: State, ripe: Ripe = NOTHING) -> State:
        for _ in range(100):
            events = heal(state, ripe, lambda: next(_ids))
            if not events:
                return state
            ripe = msgspec.structs.replace(ripe, failed=frozenset())  # they are tried again once
            self.decided += events
            state = after(state, *events)
        raise AssertionError(f"healing does not end: {self.decided[-4:]}")
