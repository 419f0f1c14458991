"""The cluster's state: a pure fold over the log, one entity a step."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from schemas.events import (
    Decided,
    DownloadReported,
    DownloadStatus,
    EntityKind,
    Forgotten,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetired,
    InstanceRetried,
    LeaderElected,
    LinksMeasured,
    ModelDemanded,
    ModelDescribed,
    ModelDesired,
    ModelIdled,
    ModelRemoved,
    ModelUnplaced,
    NodeDrained,
    NodeJoined,
    NodeLeft,
    NodeLost,
    Recorded,
    RunnerReported,
    UnknownEvent,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec
from schemas.node import NodeProfile, Role

HEALTHY_AFTER_S = 1.0
"""A runner that was ready this long has made up for its earlier failures: it loads, and what crashes it later is
poison, which is not tried for ever; seconds."""
EARLIER = 16
"""So many versions of a model are remembered beside the last one that was read: one of them may serve, whatever is pulled."""


class Leader(Struct, frozen=True, kw_only=True):
    """Who decides, since when."""

    seq: int
    node: NodeId
    term: int


class Node(Struct, frozen=True, kw_only=True):
    """A machine of the cluster; it stays known after it was lost."""

    seq: int
    id: NodeId
    incarnation: str
    name: str
    profile: NodeProfile
    roles: tuple[Role, ...]
    version: str
    api_url: str = ""
    alive: bool = True
    lost_why: str = ""
    since: float = 0.0
    """When it joined or was lost; Unix time in seconds."""
    addresses: tuple[str, ...] = ()
    """Where other nodes reach it, the likeliest first."""
    draining: bool = False
    """It takes nothing new, until it is told otherwise or its process starts again."""
    splits: tuple[str, ...] = ()
    """Ways to split an instance that its version can read; empty: an older one's, all but hybrids."""


class Model(Struct, frozen=True, kw_only=True):
    """A wished-for model."""

    seq: int
    spec: ModelSpec
    unplaced: str = ""
    """Why a copy of it has no place; empty while nothing is missing."""
    missing_bytes: int = 0
    """Memory that would have to be free besides."""
    absent: bool = False
    """Only nodes that are not there could carry it."""
    demanded: bool = False
    """Of one that is loaded on demand: it is to be loaded now."""
    idled_why: str = ""
    """Of one that is loaded on demand: why it was unloaded last."""
    wished: int = 0
    """The sequence of the last wish for it."""

    @property
    def wanted(self) -> int:
        """How many copies there are to be now."""
        return self.spec.replicas if self.demanded or not self.spec.on_demand else 0


class Card(Struct, frozen=True, kw_only=True):
    """What is known of a model's files."""

    seq: int
    model: ModelId
    source: str
    card: ModelCard
    earlier: dict[str, ModelCard] = {}
    """Of the model's other versions, by their sources: an older one may still serve."""


class Download(Struct, frozen=True, kw_only=True):
    """How far one node has come with one model's files."""

    seq: int
    node: NodeId
    model: ModelId
    source: str
    status: DownloadStatus
    bytes_done: int = 0
    bytes_total: int = 0
    path: str = ""
    reason: str = ""
    retryable: bool = True
    layers: tuple[tuple[int, int], ...] | None = None
    """Of which layers the weights are, or are to be, there; None: of all."""
    bytes_outside: int = 0
    bytes_peers: int = 0
    pulled: bool = False
    revision: str = ""
    """What the source held that is here (`schemas/revision.py`); empty: not known."""

    @property
    def is_over(self) -> bool:
        """It is here, or a person has to change something first."""
        return self.status == "complete" or (self.status == "failed" and not self.retryable)

    def covers(self, layers: tuple[int, int] | None) -> bool:
        """Whether a shard with these layers finds its weights here."""
        if self.layers is None or layers is None:
            return self.layers is None
        return any(first <= layers[0] and layers[1] <= end for first, end in self.layers)


class Links(Struct, frozen=True, kw_only=True):
    """The ways from one node to others, as it measured them last."""

    seq: int
    node: NodeId
    links: tuple[Link, ...]


Entity = Leader | Node | Model | Card | Instance | Download | Links

TABLES: Mapping[EntityKind, str] = {
    "leader": "leaders",
    "node": "nodes",
    "model": "models",
    "card": "cards",
    "instance": "instances",
    "download": "downloads",
    "links": "links",
}
TYPES: Mapping[EntityKind, type[Entity]] = {
    "leader": Leader,
    "node": Node,
    "model": Model,
    "card": Card,
    "instance": Instance,
    "download": Download,
    "links": Links,
}


class Change(Struct, frozen=True):
    """What one event does: this entity has this value now; None: it is gone."""

    kind: EntityKind
    id: str
    value: Entity | None


class State(Struct, frozen=True, kw_only=True):
    """Everything that is decided and known, as of event `seq`."""

    seq: int = 0
    leaders: dict[str, Leader] = {}
    nodes: dict[NodeId, Node] = {}
    models: dict[ModelId, Model] = {}
    cards: dict[ModelId, Card] = {}
    instances: dict[InstanceId, Instance] = {}
    downloads: dict[str, Download] = {}
    links: dict[NodeId, Links] = {}

    @property
    def leader(self) -> Leader | None:
        return self.leaders.get("leader")

    def instances_of(self, model: ModelId) -> list[Instance]:
        return [instance for instance in self.instances.values() if instance.spec.id == model]

    def card(self, model: ModelId, source: str) -> ModelCard | None:
        """What is known of a model's files, as they come from `source`."""
        known = self.cards.get(model)
        if known is None:
            return None
        return known.card if known.source == source else known.earlier.get(source)

    def download(self, node: NodeId, model: ModelId) -> Download | None:
        return self.downloads.get(f"{node}/{model}")

    def table(self, kind: EntityKind) -> dict[str, Entity]:
        return cast("dict[str, Entity]", getattr(self, TABLES[kind]))

    def entities(self) -> Iterable[Change]:
        """Every entity, as the change that would make it."""
        for kind in TABLES:
            for entity_id, value in self.table(kind).items():
                yield Change(kind, entity_id, value)


def replace_entity(state: State, change: Change) -> State:
    """`state` with one entity set or removed; `seq` stays."""
    table = dict(state.table(change.kind))
    if change.value is None:
        table.pop(change.id, None)
    else:
        table[change.id] = change.value
    return msgspec.structs.replace(state, **cast("dict[str, Any]", {TABLES[change.kind]: table}))


def apply(state: State, recorded: Recorded) -> State:
    """The state after one more event; an event that was already applied changes nothing."""
    if recorded.seq <= state.seq:
        return state
    change = change_of(state, recorded)
    after = state if change is None else replace_entity(state, change)
    return msgspec.structs.replace(after, seq=recorded.seq)


def change_of(state: State, recorded: Recorded) -> Change | None:
    """What the event does to `state`; None when it is unknown, stale, or about something that is gone."""
    event = recorded.event
    if isinstance(event, UnknownEvent):
        return None
    before = state.table(event.entity).get(event.entity_id)
    if before is not None and before.seq >= recorded.seq:
        return None
    after = _after(before, recorded)
    return None if after == before else Change(event.entity, event.entity_id, after)


def _after(before: Entity | None, recorded: Recorded) -> Entity | None:
    return _decided(before, recorded) if isinstance(recorded.event, Decided) else _seen(before, recorded)


def _decided(before: Entity | None, recorded: Recorded) -> Entity | None:
    seq, event = recorded.seq, recorded.event
    match event:
        case LeaderElected():
            return Leader(seq=seq, node=event.node, term=event.term)
        case ModelDesired():
            return Model(seq=seq, spec=event.spec, demanded=_was_loaded(before), wished=seq)
        case ModelUnplaced() | ModelDemanded() | ModelIdled():
            return _of_model(before, event, seq)
        case NodeDrained():
            known = isinstance(before, Node)
            return msgspec.structs.replace(before, seq=seq, draining=event.draining) if known else before
        case NodeLost():
            return _lost(before, event, recorded)
        case InstancePlaced():
            return Instance(
                seq=seq, id=event.instance, spec=event.spec, shards=event.shards, split=event.split
            )
        case InstanceRetried():
            return _retried(before, event, seq)
        case InstanceRetired():
            return _retired(before, event, seq)
        case ModelRemoved() | InstanceDeleted():
            return None
        case Forgotten():
            return None if before is not None and before.seq == event.as_of else before
        case _:
            return before


def _seen(before: Entity | None, recorded: Recorded) -> Entity | None:
    seq, event = recorded.seq, recorded.event
    match event:
        case ModelDescribed():
            return _described(before, event, seq)
        case NodeJoined():
            return _joined(before, event, recorded)
        case NodeLeft():
            return _lost(before, event, recorded)
        case RunnerReported():
            return _reported(before, event, recorded)
        case DownloadReported():
            return None if event.status == "removed" else _downloaded(event, seq)
        case LinksMeasured():
            return Links(seq=seq, node=event.node, links=event.links)
        case _:
            return before


def _was_loaded(before: Entity | None) -> bool:
    """One that is to be loaded on demand from now on, and has copies, keeps them until they are idle."""
    return isinstance(before, Model) and before.wanted > 0


def _of_model(
    before: Entity | None, event: ModelUnplaced | ModelDemanded | ModelIdled, seq: int
) -> Entity | None:
    if not isinstance(before, Model):
        return before
    if isinstance(event, ModelUnplaced):
        return msgspec.structs.replace(
            before, seq=seq, unplaced=event.reason, missing_bytes=event.missing_bytes, absent=event.absent
        )
    demanded, why = (True, "") if isinstance(event, ModelDemanded) else (False, event.why)
    return Model(seq=seq, spec=before.spec, demanded=demanded, idled_why=why, wished=before.wished)


def _described(before: Entity | None, event: ModelDescribed, seq: int) -> Card:
    """The latest is what is known; the last few of other sources stay known beside it."""
    earlier: dict[str, ModelCard] = {}
    if isinstance(before, Card):
        known = before.earlier | {before.source: before.card}
        earlier = {source: card for source, card in known.items() if source != event.source}
    latest = list(earlier)[-EARLIER:]
    return Card(
        seq=seq,
        model=event.model,
        source=event.source,
        card=event.card,
        earlier={source: earlier[source] for source in latest},
    )


def _joined(before: Entity | None, event: NodeJoined, recorded: Recorded) -> Node:
    drained = isinstance(before, Node) and before.draining and before.incarnation == event.incarnation
    return Node(
        seq=recorded.seq,
        id=event.node,
        incarnation=event.incarnation,
        name=event.name,
        profile=event.profile,
        roles=event.roles,
        version=event.version,
        api_url=event.api_url,
        since=recorded.time,
        addresses=event.addresses,
        draining=drained,
        splits=event.splits,
    )


def _lost(before: Entity | None, event: NodeLost | NodeLeft, recorded: Recorded) -> Entity | None:
    if not isinstance(before, Node) or before.incarnation != event.incarnation or not before.alive:
        return before
    return msgspec.structs.replace(
        before, seq=recorded.seq, alive=False, lost_why=event.why, since=recorded.time
    )


def _retried(before: Entity | None, event: InstanceRetried, seq: int) -> Entity | None:
    if not isinstance(before, Instance) or event.attempt <= before.attempt:
        return before
    return msgspec.structs.replace(
        before,
        seq=seq,
        attempt=event.attempt,
        shards=event.shards,
        split=event.split,
        status="placed",
        reason=event.why,
        diagnostics="",
        retryable=True,
        ready_at=0.0,
        fate=before.fate if before.status == "failed" else "",
    )


def _retired(before: Entity | None, event: InstanceRetired, seq: int) -> Entity | None:
    if not isinstance(before, Instance):
        return before
    return msgspec.structs.replace(before, seq=seq, retired=event.why)


def _reported(before: Entity | None, event: RunnerReported, recorded: Recorded) -> Entity | None:
    if not isinstance(before, Instance) or event.attempt != before.attempt or before.status == "failed":
        return before
    if event.status == "failed":
        return _failed(before, event, recorded)
    if event.rank:  # loading is done by all ranks together: when rank 0 is ready, all are
        return before
    return msgspec.structs.replace(
        before,
        seq=recorded.seq,
        status=event.status,
        slots=event.slots,
        reason=event.reason,
        ready_at=_ready_at(before, event, recorded.time),
        served=before.served or event.status == "ready",
    )


def _ready_at(before: Instance, event: RunnerReported, now: float) -> float:
    """A runner that is ready may say so again, with what has changed."""
    if event.status != "ready":
        return 0.0
    return before.ready_at if before.status == "ready" else now


def _failed(before: Instance, event: RunnerReported, recorded: Recorded) -> Instance:
    healthy = before.ready_at > 0 and recorded.time - before.ready_at >= HEALTHY_AFTER_S
    return msgspec.structs.replace(
        before,
        seq=recorded.seq,
        status="failed",
        reason=event.reason,
        diagnostics=event.diagnostics,
        retryable=event.retryable,
        failures=1 if healthy else before.failures + 1,
        ready_at=0.0,
        fate=event.fate,
    )


def _downloaded(event: DownloadReported, seq: int) -> Download:
    return Download(
        seq=seq,
        node=event.node,
        model=event.model,
        source=event.source,
        status=event.status,
        bytes_done=event.bytes_done,
        bytes_total=event.bytes_total,
        path=event.path,
        reason=event.reason,
        retryable=event.retryable,
        layers=event.layers,
        bytes_outside=event.bytes_outside,
        bytes_peers=event.bytes_peers,
        pulled=event.pulled,
        revision=event.revision,
    )
