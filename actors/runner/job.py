"""What a worker and the runner process that it starts say to each other, beside the bus.

The worker starts `python -m actors.runner` and writes one line of JSON to its stdin: the `RunnerJob`; later a line
with its `Standing` whenever that changes. It keeps stdin open: when that closes, the worker is gone, and the runner
leaves too. On stdout the runner says at most one
line of JSON, its `LastWords`, and exits with 1; stderr is its log. SIGTERM makes it leave with 0; it finishes
nothing, as the owners of its requests send them elsewhere.

`python -m actors.runner --spare` is a runner ahead of its job: it imports all that any job needs, says that it is `Waiting`, and
sleeps until it is told one.
"""

from typing import Literal

from msgspec import Struct

from schemas.ids import InstanceId, NodeId
from schemas.instance import Fate, Shard, Split
from schemas.model import ModelSpec

LogLevel = Literal["debug", "info", "warning", "error"]
SPARE = "--spare"


class Standing(Struct, frozen=True, kw_only=True):
    """What a runner may take, as the state says it."""

    pulls: bool = True
    """Whether the tasks in its model's queue are for it: they are all of one version."""
    retired: bool = False
    """It takes no fresh request, and ends those that it has."""


class RunnerJob(Struct, frozen=True, kw_only=True):
    """One life of one shard: everything that its process must know."""

    nats_url: str
    cluster: str
    node: NodeId
    instance: InstanceId
    attempt: int
    """The instance's attempt: stands in every report and every answer."""
    spec: ModelSpec
    path: str
    """Folder of the model's files on this node."""
    draft_path: str = ""
    """Folder of its draft's files; empty: it has none."""
    rank: int = 0
    shards: tuple[Shard, ...] = ()
    """All ranks of the instance; fewer than two: this one is alone."""
    split: Split = "whole"
    pulse_s: float = 1.0
    log_level: LogLevel = "info"
    otlp_endpoint: str = ""
    """Where spans are sent; empty: nowhere."""
    standing: Standing = Standing()
    """At first."""

    @property
    def in_group(self) -> bool:
        return len(self.shards) > 1

    @property
    def ranks(self) -> list[Shard]:
        """The shards, that of rank 0 first."""
        return sorted(self.shards, key=lambda shard: shard.rank)


class Waiting(Struct, frozen=True, tag=True):
    """A spare has imported all that a job could need."""


class LastWords(Struct, frozen=True, kw_only=True, tag=True):
    """Why a runner ends by itself, as a sentence for people."""

    failed: str
    retryable: bool
    fate: Fate = "fell"


Words = Waiting | LastWords
"""What a runner says on stdout."""
