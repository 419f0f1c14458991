"""A model that was changed: copies of the new form come beside the older ones, which serve until those are ready."""

from collections.abc import Iterator, Sequence

from actors.master.placement import NoPlace
from actors.master.room import fits_without
from schemas.events import Decided, InstanceRetired
from schemas.instance import Instance
from schemas.state import Model, State
from schemas.version import same_form


def is_older(instance: Instance, model: Model) -> bool:
    """Of another form than is wished for now."""
    return not same_form(instance.spec, model.spec)


def retire(older: Sequence[Instance], why: str) -> Iterator[Decided]:
    """They end what they have, and nothing else comes to them."""
    for one in older:
        yield InstanceRetired(instance=one.id, why=why)


def make_way(
    model: Model, state: State, older: Sequence[Instance], newer: Sequence[Instance], lack: NoPlace
) -> list[Decided] | None:
    """What is done when there is no room for one more of the new form beside the older ones; None: nothing helps.

    One after another is replaced; who is served by nobody meanwhile waits.
    """
    if any(one.status == "ready" for one in newer):
        return list(retire(older, f"the model was changed: what is ready of it serves ({lack.reason})"))
    if newer or fits_without(model.spec, state):
        return []  # what is loading will be ready, and what leaves will have left
    for group in (*([one] for one in _least_useful_first(older)), older):
        if fits_without(model.spec, state, (one.id for one in group)):
            why = f"the model was changed, and both do not fit: {lack.reason}"
            return list(retire(group, why))
    return None


def _least_useful_first(older: Sequence[Instance]) -> list[Instance]:
    return sorted(older, key=lambda one: (one.status == "ready", one.seq))
