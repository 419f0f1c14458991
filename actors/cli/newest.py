"""Whether the place that a model comes from holds something newer by now: a node asks it."""

from msgspec import Struct

from bus.bus import Bus
from bus.errors import NoAnswer, NobodyThere
from schemas.commands import FindNewest, NewestAnswer
from schemas.ids import ModelId, NodeId
from schemas.refused import Refused
from schemas.revision import marked, revision_of
from schemas.state import State

ANSWER_S = 45.0
"""A node gives up a place that says nothing after 20 s, and asks one after the other."""


class Found(Struct, frozen=True):
    """What there is to bring."""

    source: str
    newer: bool | None = None
    """None: nobody has asked."""
    unasked: str = ""
    """Why nobody could be asked: what is known is brought."""
    was: str = ""
    """What the cluster had, by its revision."""

    @property
    def to_fetch(self) -> bool:
        """A folder is used where it is: there is something to be done only if it was changed."""
        return bool(self.newer) or not self.source.startswith("/")

    def name_for(self, model: ModelId) -> ModelId:
        """By what name the files are known: those of a revision lie beside others of the model."""
        revision = revision_of(self.source)
        return ModelId(marked(model, revision)) if revision else model


async def newest(bus: Bus, node: NodeId, source: str) -> Found:
    """What `node` hears from the place; what nobody has yet, nobody asks about."""
    known = (each.revision for each in bus.view.state.downloads.values() if each.source == source)
    revision = next(filter(None, known), "")
    if not revision:
        return Found(source)
    try:
        answer = await bus.ask(bus.subjects.newest(node), FindNewest(source=source), NewestAnswer, ANSWER_S)
    except (NobodyThere, NoAnswer) as silent:
        return Found(source, unasked=str(silent))
    if isinstance(answer, Refused):
        return Found(source, unasked=answer.reason)
    return Found(answer.source, newer=answer.source != source, was=marked(source, revision))


def carrier(state: State, model: ModelId, source: str) -> NodeId | None:
    """The node of a folder: no other has it."""
    known = state.models.get(model)
    return known.spec.node if known is not None and source.startswith("/") else None
