"""What actors are asked to do over the bus, and what they answer."""

from msgspec import Struct

from schemas.ids import InstanceId, ModelId, NodeId
from schemas.manifest import Manifest
from schemas.model import ModelSpec
from schemas.plan import Previews
from schemas.refused import Refused


class LoadModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: keep this model loaded; the same model again changes it, or retries it at once."""

    spec: ModelSpec


class UnloadModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: forget this model and stop its instances."""

    model: ModelId


class DemandModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: somebody waits for a model that is loaded on demand; said again while it is so."""

    model: ModelId
    waited_s: float = 0.0
    """The longest of them has waited so long; seconds."""


class RestartInstance(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: start an instance's runners afresh."""

    instance: InstanceId


class DrainNode(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: a node is to take nothing new, and what it carries is to go elsewhere; `undo`: use it again."""

    node: NodeId
    undo: bool = False


class ForgetNode(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: this node will not come back; refused while it lives."""

    node: NodeId


class PreviewModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: how could one more copy of this model be placed now? Nothing is decided."""

    model: ModelId


class StopNode(Struct, frozen=True, kw_only=True, tag=True):
    """To a node: stop cleanly; it is named, so that nothing else, `{}` least of all, reads as this."""

    node: NodeId


class OpenLink(Struct, frozen=True, kw_only=True, tag=True):
    """To a node: let me measure the way to you, once and soon."""

    by: NodeId


class LinkLost(Struct, frozen=True, kw_only=True, tag=True):
    """To a node, from one of its runners: the way to that other node is cut."""

    to: NodeId


class LinkOpen(Struct, frozen=True, kw_only=True, tag=True):
    """Where a node waits to be measured, and what whoever comes must say first."""

    addresses: tuple[str, ...]
    port: int
    secret: str


class FindFiles(Struct, frozen=True, kw_only=True, tag=True):
    """To a node's downloader: where can the files of this source be fetched from you?"""

    source: str


class PullModel(Struct, frozen=True, kw_only=True, tag=True):
    """To a node's downloader: bring these files, though nothing here serves them yet."""

    model: ModelId
    source: str
    verify: bool = False
    """Read every byte that is here, and bring again what is not what it was."""


class RemoveModel(Struct, frozen=True, kw_only=True, tag=True):
    """To a node's downloader: delete the files of this model; refused while something here needs them."""

    model: ModelId
    source: str


class FilesFound(Struct, frozen=True, kw_only=True, tag=True):
    """Where a node serves model files to the others, and what it has of the source that was asked for."""

    urls: tuple[str, ...]
    token: str
    manifest: Manifest | None = None
    """None: it has nothing of it."""


class FindNewest(Struct, frozen=True, kw_only=True, tag=True):
    """To a node's downloader, on a subject of its own: does the place of this source hold something newer by now?"""

    source: str


class Newest(Struct, frozen=True, kw_only=True, tag=True):
    """What the place holds: the source that was asked about, or the same with another revision."""

    source: str


FilesCommand = FindFiles | PullModel | RemoveModel
MasterCommand = LoadModel | UnloadModel | RestartInstance | DrainNode | ForgetNode | DemandModel
MasterMessage = MasterCommand | PreviewModel
NodeCommand = StopNode


class Done(Struct, frozen=True, kw_only=True, tag=True):
    """The command was carried out; `seq` is the sequence of the last event that it led to (0: none was needed)."""

    seq: int = 0


Answer = Done | Refused
LinkOrder = OpenLink | LinkLost
LinkAnswer = LinkOpen | Refused
LinkNoted = Done | Refused
PreviewAnswer = Previews | Refused
FilesAnswer = FilesFound | Done | Refused
NewestAnswer = Newest | Refused
