"""What has happened: the leader's decisions and everybody's facts, as they stand in the log.

An event changes one entity, named by `entity` and `entity_id`. The sequence and the time of an event are
those that the bus gave it (`Recorded`), so that there is one clock and one order.
"""

from typing import ClassVar, Literal

import msgspec
from msgspec import Struct

from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Fate, RunnerStatus, Shard, Split
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec
from schemas.node import NodeProfile, Role
from schemas.unreadable import UNREADABLE

EntityKind = Literal["leader", "node", "model", "card", "instance", "download", "links"]
DownloadStatus = Literal["downloading", "complete", "failed", "removed"]


class Event(Struct, frozen=True, kw_only=True):
    """A change of one entity; subclasses say of which kind and which one."""

    entity: ClassVar[EntityKind]

    @property
    def entity_id(self) -> str:
        raise NotImplementedError


class Decided(Event, frozen=True, kw_only=True):
    """An event that only the leader appends, fenced."""


class Seen(Event, frozen=True, kw_only=True):
    """A fact that any actor may append."""


class LeaderElected(Decided, frozen=True, kw_only=True, tag=True):
    """A node holds the lease; `term` is the lease's revision."""

    entity = "leader"
    node: NodeId
    term: int

    @property
    def entity_id(self) -> str:
        return "leader"


class ModelDesired(Decided, frozen=True, kw_only=True, tag=True):
    """A model is wanted, in this form."""

    entity = "model"
    spec: ModelSpec

    @property
    def entity_id(self) -> str:
        return self.spec.id


class ModelRemoved(Decided, frozen=True, kw_only=True, tag=True):
    """A model is no longer wanted."""

    entity = "model"
    model: ModelId

    @property
    def entity_id(self) -> str:
        return self.model


class ModelUnplaced(Decided, frozen=True, kw_only=True, tag=True):
    """A model that is wanted has no place; said again only when the reason is another one."""

    entity = "model"
    model: ModelId
    reason: str
    """Empty: it has a place again."""
    missing_bytes: int = 0
    """Memory that would have to be free besides; 0: memory is not what is missing."""
    absent: bool = False
    """Only nodes that are not there could carry it: they may come back."""

    @property
    def entity_id(self) -> str:
        return self.model


class ModelDemanded(Decided, frozen=True, kw_only=True, tag=True):
    """Somebody waits for a model that is loaded on demand."""

    entity = "model"
    model: ModelId

    @property
    def entity_id(self) -> str:
        return self.model


class ModelIdled(Decided, frozen=True, kw_only=True, tag=True):
    """A model that is loaded on demand is not to be loaded, until the next request."""

    entity = "model"
    model: ModelId
    why: str

    @property
    def entity_id(self) -> str:
        return self.model


class InstancePlaced(Decided, frozen=True, kw_only=True, tag=True):
    """A copy of a model was given its nodes."""

    entity = "instance"
    instance: InstanceId
    spec: ModelSpec
    shards: tuple[Shard, ...]
    split: Split = "whole"

    @property
    def entity_id(self) -> str:
        return self.instance


class InstanceRetried(Decided, frozen=True, kw_only=True, tag=True):
    """An instance that failed, or lost a node, starts its next attempt, perhaps elsewhere."""

    entity = "instance"
    instance: InstanceId
    attempt: int
    shards: tuple[Shard, ...]
    why: str
    split: Split = "whole"

    @property
    def entity_id(self) -> str:
        return self.instance


class InstanceRetired(Decided, frozen=True, kw_only=True, tag=True):
    """An instance takes no fresh requests any more; when it has ended those that it has, it is deleted."""

    entity = "instance"
    instance: InstanceId
    why: str

    @property
    def entity_id(self) -> str:
        return self.instance


class InstanceDeleted(Decided, frozen=True, kw_only=True, tag=True):
    """An instance is to be stopped and forgotten."""

    entity = "instance"
    instance: InstanceId
    why: str

    @property
    def entity_id(self) -> str:
        return self.instance


class NodeLost(Decided, frozen=True, kw_only=True, tag=True):
    """A node's lease ran out: nothing that it carried is served any more."""

    entity = "node"
    node: NodeId
    incarnation: str
    why: str

    @property
    def entity_id(self) -> str:
        return self.node


class NodeDrained(Decided, frozen=True, kw_only=True, tag=True):
    """A node takes nothing new, and what it carries goes elsewhere; or, with `draining` false, is used again."""

    entity = "node"
    node: NodeId
    draining: bool = True

    @property
    def entity_id(self) -> str:
        return self.node


class Forgotten(Decided, frozen=True, kw_only=True, tag=True):
    """What was known of something is of no use any more: a node that is gone for long, a model that nobody wishes for.

    It counts only for what was known then (`as_of`, the entity's `seq`): who says something new is not forgotten.
    """

    kind: EntityKind
    id: str
    as_of: int

    @property
    def entity(self) -> EntityKind:  # type: ignore[override]  # the one event that is about any kind
        return self.kind

    @property
    def entity_id(self) -> str:
        return self.id


class NodeJoined(Seen, frozen=True, kw_only=True, tag=True):
    """A node is there; `incarnation` names this life of its process."""

    entity = "node"
    node: NodeId
    incarnation: str
    name: str
    profile: NodeProfile
    roles: tuple[Role, ...]
    version: str
    api_url: str = ""
    addresses: tuple[str, ...] = ()
    """Where other nodes reach it, the likeliest first; loopback alone where its bus is for this machine."""
    splits: tuple[str, ...] = ()
    """Ways to split an instance that its version can read; empty: an older one's, all but hybrids."""

    @property
    def entity_id(self) -> str:
        return self.node


class NodeLeft(Seen, frozen=True, kw_only=True, tag=True):
    """A node stopped cleanly."""

    entity = "node"
    node: NodeId
    incarnation: str
    why: str = "stopped"

    @property
    def entity_id(self) -> str:
        return self.node


class RunnerReported(Seen, frozen=True, kw_only=True, tag=True):
    """A runner has come to another state."""

    entity = "instance"
    instance: InstanceId
    node: NodeId
    attempt: int
    status: RunnerStatus
    rank: int = 0
    slots: int = 0
    reason: str = ""
    diagnostics: str = ""
    retryable: bool = True
    fate: Fate = ""

    @property
    def entity_id(self) -> str:
        return self.instance


class DownloadReported(Seen, frozen=True, kw_only=True, tag=True):
    """A node's downloader has come further with a model's files."""

    entity = "download"
    node: NodeId
    model: ModelId
    source: str
    status: DownloadStatus
    bytes_done: int = 0
    bytes_total: int = 0
    path: str = ""
    """Folder on that node that holds the model's files, once complete."""
    reason: str = ""
    retryable: bool = True
    layers: tuple[tuple[int, int], ...] | None = None
    """Of which layers the weights are, or are to be, there: first, and after the last; None: of all."""
    bytes_outside: int = 0
    """What this download has brought from its source, since the node's process began."""
    bytes_peers: int = 0
    """What it has brought from other nodes of the cluster instead."""
    pulled: bool = False
    """Somebody has asked for the files by name (`actors pull`): it goes on when the node is started again."""
    revision: str = ""
    """What the source held that is here; empty: not known."""

    @property
    def entity_id(self) -> str:
        return f"{self.node}/{self.model}"


class ModelDescribed(Seen, frozen=True, kw_only=True, tag=True):
    """A model's files were read, and this is what they say."""

    entity = "card"
    model: ModelId
    source: str
    card: ModelCard

    @property
    def entity_id(self) -> str:
        return self.model


class LinksMeasured(Seen, frozen=True, kw_only=True, tag=True):
    """A node has measured its ways to others; this takes the place of what it said before."""

    entity = "links"
    node: NodeId
    links: tuple[Link, ...]

    @property
    def entity_id(self) -> str:
        return self.node


class UnknownEvent(Struct, frozen=True, kw_only=True):
    """An event of a newer version, or no event at all: kept as it came, changes nothing here."""

    type: str
    """The kind it says it is; empty when it is no event."""
    raw: bytes
    why: str = ""
    """What could not be read."""


KnownEvent = (
    LeaderElected
    | ModelDesired
    | ModelRemoved
    | ModelUnplaced
    | ModelDemanded
    | ModelIdled
    | InstancePlaced
    | InstanceRetried
    | InstanceRetired
    | InstanceDeleted
    | NodeLost
    | NodeDrained
    | Forgotten
    | NodeJoined
    | NodeLeft
    | RunnerReported
    | DownloadReported
    | ModelDescribed
    | LinksMeasured
)


class Recorded(Struct, frozen=True, kw_only=True):
    """An event as it stands in the log."""

    seq: int
    time: float
    """When the bus stored it; Unix time in seconds."""
    event: KnownEvent | UnknownEvent
    term: int = 0
    """The term of the leader that decided it; 0 for facts."""
    by: str = ""
    """The node that appended it."""


class _Kind(Struct):
    type: str


_KNOWN = msgspec.json.Decoder(KnownEvent)
_KIND = msgspec.json.Decoder(_Kind)


def encode_event(event: Event) -> bytes:
    """JSON, with the kind under `type`."""
    return msgspec.json.encode(event)


def decode_event(raw: bytes) -> KnownEvent | UnknownEvent:
    """The event in `raw`; what this version cannot read becomes an `UnknownEvent`, so that no log stops a reader."""
    try:
        return _KNOWN.decode(raw)
    except UNREADABLE as unreadable:
        return UnknownEvent(type=_kind_of(raw), raw=raw, why=str(unreadable))


def _kind_of(raw: bytes) -> str:
    try:
        return _KIND.decode(raw).type
    except UNREADABLE:
        return ""
