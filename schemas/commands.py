"""What actors are asked to do over the bus, and what they answer."""

from msgspec import Struct

from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import ModelSpec
from schemas.refused import Refused


class LoadModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: keep this model loaded; the same model again changes it, or retries it at once."""

    spec: ModelSpec


class UnloadModel(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: forget this model and stop its instances."""

    model: ModelId


class RestartInstance(Struct, frozen=True, kw_only=True, tag=True):
    """To the master: start an instance's runners afresh."""

    instance: InstanceId


class StopNode(Struct, frozen=True, kw_only=True, tag=True):
    """To a node: stop cleanly; it is named, so that nothing else, `{}` least of all, reads as this."""

    node: NodeId


MasterCommand = LoadModel | UnloadModel | RestartInstance
NodeCommand = StopNode


class Done(Struct, frozen=True, kw_only=True, tag=True):
    """The command was carried out; `seq` is the sequence of the last event that it led to (0: none was needed)."""

    seq: int = 0


Answer = Done | Refused
