"""Every stream, bucket and object store of a cluster, once, and how they are made."""

from typing import Any

from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.api import (
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from bus.errors import BusAway, UnusableServer
from bus.subjects import Subjects

MIB = 1024 * 1024
DUPLICATES_S = 120.0
"""How long the bus recognises a repeated publish by its message id; seconds."""
_NOT_YET = (10005, 10008, 10009)
"""Too few of several servers are there: no peers to hold it, no leader, no quorum."""
MARKER_TTL_S = 300.0
"""How long an expired lease's marker stays visible; seconds."""


class StreamLimits(Struct, frozen=True, kw_only=True):
    """Bounds of what the cluster keeps on the bus."""

    log_bytes: int = 256 * MIB
    log_age_s: float = 30 * 24 * 3600.0
    queue_bytes: int = 256 * MIB
    queue_tasks: int = 10_000
    chunk_bytes: int = 128 * MIB
    chunk_age_s: float = 120.0
    audit_bytes: int = 256 * MIB
    audit_age_s: float = 90 * 24 * 3600.0
    fetches_age_s: float = 7 * 24 * 3600.0
    payload_bytes: int = 512 * MIB
    payload_age_s: float = 3600.0
    replicas: int = 1

    @classmethod
    def of_three(cls) -> "StreamLimits":
        """For a bus of three servers: each keeps everything, so that any one may be lost."""
        return cls(replicas=3)


class Streams(Struct, frozen=True):
    """The names of a cluster's streams and buckets."""

    cluster: str

    @property
    def events(self) -> str:
        """`troupe_events`, file: the ordered log of decisions and facts."""
        return f"{self.cluster}_events"

    @property
    def tasks(self) -> str:
        """`troupe_tasks`, file, work queue: requests that wait for a worker."""
        return f"{self.cluster}_tasks"

    @property
    def out(self) -> str:
        """`troupe_out`, memory: chunks, captured in passing."""
        return f"{self.cluster}_out"

    @property
    def audit(self) -> str:
        """`troupe_audit`, file: one record of each finished request."""
        return f"{self.cluster}_audit"

    @property
    def leases(self) -> str:
        """Bucket `troupe_leases`: who leads and who is alive, with TTLs; on file, so that it outlives its server."""
        return f"{self.cluster}_leases"

    @property
    def state(self) -> str:
        """Bucket `troupe_state`: one key for each entity, and `head`."""
        return f"{self.cluster}_state"

    @property
    def models(self) -> str:
        """Bucket `troupe_models`: the catalogue of wished-for models."""
        return f"{self.cluster}_models"

    @property
    def secrets(self) -> str:
        """Bucket `troupe_secrets`: what the API actors of a cluster share, and nobody else is told."""
        return f"{self.cluster}_secrets"

    @property
    def fetches(self) -> str:
        """Bucket `troupe_fetches`: which node brings which piece of a model from outside."""
        return f"{self.cluster}_fetches"

    @property
    def artifacts(self) -> str:
        """Object store `troupe_artifacts`: tokenizers and templates."""
        return f"{self.cluster}_artifacts"

    @property
    def payloads(self) -> str:
        """Object store `troupe_payloads`: inputs too large for a message, expiring."""
        return f"{self.cluster}_payloads"

    @property
    def carrying(self) -> str:
        """`troupe_carrying`: there, and empty, while the other streams are being carried over (`bus/carry_over.py`)."""
        return f"{self.cluster}_carrying"


def configurations(cluster: str, limits: StreamLimits) -> list[StreamConfig]:
    """What `make_streams` makes; buckets and object stores in the form that `nats kv` and `nats object` know."""
    names, subjects = Streams(cluster), Subjects(cluster)
    return [
        StreamConfig(
            name=names.events,
            description="Decisions and facts of the cluster, in order",
            subjects=[subjects.events],
            max_bytes=limits.log_bytes,
            max_age=limits.log_age_s,
            duplicate_window=DUPLICATES_S,
            allow_direct=True,
            num_replicas=limits.replicas,
        ),
        StreamConfig(
            name=names.tasks,
            description="Requests that wait for a worker",
            subjects=[subjects.tasks],
            retention=RetentionPolicy.WORK_QUEUE,
            allow_msg_ttl=True,
            discard=DiscardPolicy.NEW,
            max_bytes=limits.queue_bytes,
            max_msgs=limits.queue_tasks,
            duplicate_window=DUPLICATES_S,
            num_replicas=limits.replicas,
        ),
        StreamConfig(
            name=names.out,
            description="Chunks on their way to clients, kept for a moment",
            subjects=[subjects.chunks],
            storage=StorageType.MEMORY,
            no_ack=True,
            max_bytes=limits.chunk_bytes,
            max_age=limits.chunk_age_s,
            duplicate_window=1.0,
        ),
        StreamConfig(
            name=names.audit,
            description="What each finished request cost",
            subjects=[subjects.audits],
            max_bytes=limits.audit_bytes,
            max_age=limits.audit_age_s,
            duplicate_window=DUPLICATES_S,
            allow_direct=True,
            num_replicas=limits.replicas,
        ),
        _bucket(names.leases, limits, allow_msg_ttl=True, subject_delete_marker_ttl=MARKER_TTL_S),
        _bucket(names.state, limits),
        _bucket(names.models, limits),
        _bucket(names.secrets, limits),
        _bucket(
            names.fetches,
            limits,
            max_age=limits.fetches_age_s,
            allow_msg_ttl=True,
            subject_delete_marker_ttl=MARKER_TTL_S,
        ),
        _object_store(names.artifacts, limits),
        _object_store(names.payloads, limits, max_age=limits.payload_age_s, max_bytes=limits.payload_bytes),
    ]


async def make_streams(jetstream: JetStreamContext, cluster: str, limits: StreamLimits | None = None) -> None:
    """Create what is missing; what is there keeps the limits that it has (they may be an operator's)."""
    for configuration in configurations(cluster, limits or StreamLimits()):
        try:
            await jetstream.stream_info(str(configuration.name))
        except NotFoundError:
            await make_stream(jetstream, configuration)
        except ServiceUnavailableError:  # one in memory, whose only server is away: it comes back with it
            if configuration.storage is not StorageType.MEMORY:
                raise


async def make_stream(jetstream: JetStreamContext, configuration: StreamConfig) -> None:
    """Create one stream; raises `BusAway` while too few servers are there, else `UnusableServer`."""
    try:
        await jetstream.add_stream(configuration)  # pyright: ignore[reportUnknownMemberType]  # untyped in nats-py
    except APIError as failure:
        if failure.err_code in _NOT_YET:
            raise BusAway(
                f"the stream {configuration.name} cannot be made yet: {failure.description}"
            ) from failure
        if failure.err_code == 10058:  # somebody made it meanwhile, with other limits
            return
        raise UnusableServer(
            f"the bus cannot make the stream {configuration.name}: {failure.description}"
        ) from failure


def _bucket(name: str, limits: StreamLimits, **more: Any) -> StreamConfig:
    return StreamConfig(
        name=f"KV_{name}",
        subjects=[f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        duplicate_window=DUPLICATES_S,
        num_replicas=limits.replicas,
        **more,
    )


def _object_store(name: str, limits: StreamLimits, **more: Any) -> StreamConfig:
    return StreamConfig(
        name=f"OBJ_{name}",
        subjects=[f"$O.{name}.C.>", f"$O.{name}.M.>"],
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=True,
        allow_direct=True,
        num_replicas=limits.replicas,
        **more,
    )
