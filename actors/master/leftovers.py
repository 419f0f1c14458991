"""What the state knows and nobody needs any more: nodes that have been gone for long, cards and files of models that are no more."""

import time
from collections.abc import Callable, Iterator

from actors.master.complaints import Complaints
from schemas.events import EntityKind, Forgotten
from schemas.files import earlier_id
from schemas.ids import ModelId
from schemas.presence import models_on
from schemas.refused import Refused
from schemas.revision import meant, unmarked
from schemas.state import Download, Entity, Node, State

FORGET_NODE_S = 7 * 24 * 3600.0
"""A node that has been gone for so long, by the bus's clock, is not expected back, unless the leader was told another time; seconds."""
FORGET_MODEL_S = 3600.0
"""What is known of a model that nobody wishes for is kept for so long, by the leader's clock: it may be wished for again."""
IN_PLACE = ("builtin:", "/")
"""Sources of which no files are kept on nodes."""


class Leftovers:
    """Of one leader: a new one begins to count anew what nobody wishes for; when nodes went the log knows."""

    def __init__(
        self, forget_nodes_after_s: float = FORGET_NODE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._after_s = forget_nodes_after_s
        self._unneeded = Complaints()
        self._clock = clock

    def ripe(self, state: State, bus_time: float) -> list[Forgotten]:
        """What is to be forgotten now."""
        idle = unneeded(state)
        over, _wait_s = self._unneeded.ripe(dict.fromkeys(idle, FORGET_MODEL_S), self._clock())
        return [*long_gone(state, bus_time, self._after_s), *(idle[name] for name in sorted(over))]


def forget_node(node: Node, state: State) -> list[Forgotten] | Refused:
    """A node and all that it has said; refused while it lives, or carries what has no other place."""
    if node.alive:
        return Refused("conflict", f"node {node.name} is alive: stop it first, with `actors down` on it")
    if carried := models_on(state, node.id):
        return Refused("conflict", f"node {node.name} still carries {', '.join(carried)}: unload that first")
    said = [each for each in state.downloads.values() if each.node == node.id]
    links = state.links.get(node.id)
    return [
        *(_file(each) for each in said),
        *([] if links is None else [_forgotten("links", node.id, links)]),
        _forgotten("node", node.id, node),
    ]


def long_gone(state: State, now: float, after_s: float) -> Iterator[Forgotten]:
    """Nodes that were lost or left `after_s` seconds ago; `now` is the bus's time."""
    for node in state.nodes.values():
        if not node.alive and now - node.since >= after_s:
            events = forget_node(node, state)
            yield from [] if isinstance(events, Refused) else events


def unneeded(state: State) -> dict[str, Forgotten]:
    """What may be forgotten when that has lasted for a while, by names."""
    needed = _needed(state)
    files = [each for each in state.downloads.values() if not _is_needed(each, needed, state)]
    cards = [
        card
        for card in state.cards.values()
        if card.model not in needed and not any(each.model == card.model for each in state.downloads.values())
    ]
    return {f"download {each.node}/{each.model} {each.seq}": _file(each) for each in files} | {
        f"card {card.model} {card.seq}": _forgotten("card", card.model, card) for card in cards
    }


def _needed(state: State) -> set[ModelId]:
    """Models that are wished for or placed, in any version, and their drafts."""
    specs = [model.spec for model in state.models.values()]
    specs += [one.spec for one in state.instances.values()]
    files = {(spec.id, spec.source) for spec in specs} | {
        (spec.draft_id, spec.draft) for spec in specs if spec.draft
    }
    return {name for name, _ in files} | {earlier_id(*each) for each in files}


def _is_needed(download: Download, needed: set[ModelId], state: State) -> bool:
    """Files that are kept on a node are known for as long as they and the node are there."""
    if download.model in needed or _is_meant(download, state):
        return True
    comes = download.status == "downloading" or (download.pulled and not download.is_over)
    kept = comes or download.status == "complete" or download.bytes_done > 0
    return download.node in state.nodes and kept and not download.source.startswith(IN_PLACE)


def _is_meant(download: Download, state: State) -> bool:
    """It was pulled to be loaded by a name that is served: nothing of a folder is kept on nodes, but what `load` means is."""
    specs = [model.spec for model in state.models.values()]
    served = {unmarked(source) for spec in specs for source in (spec.source, spec.draft)}
    place = unmarked(download.source)
    return download.pulled and place in served and meant(state, download.model, place) == download.source


def _file(download: Download) -> Forgotten:
    return _forgotten("download", f"{download.node}/{download.model}", download)


def _forgotten(kind: EntityKind, name: str, entity: Entity) -> Forgotten:
    return Forgotten(kind=kind, id=name, as_of=entity.seq)
