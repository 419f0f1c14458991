"""Every subject of a cluster, once; all begin with the cluster's name (here `troupe`).

A model's or request's name becomes one token of a subject by `token`, which is injective and reads well:
letters, digits, `-` and `_` stay, every other byte of the UTF-8 form becomes `=XX`.
"""

import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from schemas.events import Decided, Event
from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.task import Lane

_PLAIN = re.compile(rb"[A-Za-z0-9_-]")
_ALL_PLAIN = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,32}")


def token(name: str) -> str:
    """`name` as one token of a subject or of a key: `org/model.v1` -> `org=2Fmodel=2Ev1`."""
    if _ALL_PLAIN.fullmatch(name):
        return name
    raw = name.encode()
    return "".join(chr(byte) if _PLAIN.match(bytes([byte])) else f"={byte:02X}" for byte in raw)


def untoken(encoded: str) -> str:
    """The name that `token` made `encoded` from."""
    decode: Callable[[re.Match[bytes]], bytes] = lambda match: bytes([int(match[1], 16)])  # noqa: E731
    return _ESCAPED.sub(decode, encoded.encode()).decode()


class Subjects(Struct, frozen=True):
    """The subjects of the cluster named `cluster`."""

    cluster: str

    def __post_init__(self) -> None:
        if not _CLUSTER.fullmatch(self.cluster):
            raise ValueError(
                f"cluster name {self.cluster!r} is not usable: 1 to 32 letters, digits, '-' and '_' are"
            )

    # Events: stored in the stream `troupe_events`, JSON.

    @property
    def events(self) -> str:
        """`troupe.evt.>`: the whole log."""
        return f"{self.cluster}.evt.>"

    @property
    def decisions(self) -> str:
        """`troupe.evt.decided.>`: what only the leader appends, fenced as a whole."""
        return f"{self.cluster}.evt.decided.>"

    def event(self, event: Event) -> str:
        """`troupe.evt.decided.{entity}.{id}` or `troupe.evt.seen.{entity}.{id}`."""
        branch = "decided" if isinstance(event, Decided) else "seen"
        return f"{self.cluster}.evt.{branch}.{event.entity}.{token(event.entity_id)}"

    @property
    def carrying(self) -> str:
        """`troupe.carrying`: what the marker of that name would store; nobody sends anything there."""
        return f"{self.cluster}.carrying"

    # Commands: request and reply, JSON, never stored.

    @property
    def master(self) -> str:
        """`troupe.cmd.master`: the leader answers, nobody else."""
        return f"{self.cluster}.cmd.master"

    def node(self, node: NodeId) -> str:
        """`troupe.cmd.node.{node}`: one node process."""
        return f"{self.cluster}.cmd.node.{token(node)}"

    def link(self, node: NodeId) -> str:
        """`troupe.cmd.link.{node}`: one node opens itself to be measured."""
        return f"{self.cluster}.cmd.link.{token(node)}"

    def files(self, node: NodeId) -> str:
        """`troupe.cmd.files.{node}`: the downloader of one node."""
        return f"{self.cluster}.cmd.files.{token(node)}"

    def newest(self, node: NodeId) -> str:
        """`troupe.cmd.newest.{node}`: the downloader of one node asks a place outside what it holds, which takes a while."""
        return f"{self.cluster}.cmd.newest.{token(node)}"

    # Tasks, chunks and cancels: MessagePack (cancels are JSON).

    @property
    def tasks(self) -> str:
        """`troupe.task.>`: stored in the work queue `troupe_tasks`."""
        return f"{self.cluster}.task.>"

    def task(self, model: ModelId, lane: Lane) -> str:
        """`troupe.task.{model}.{lane}`: requests that wait for a worker."""
        return f"{self.cluster}.task.{token(model)}.{lane}"

    def run(self, instance: InstanceId) -> str:
        """`troupe.run.{instance}`: offer of a task (`Accepted`, `Refused`), or which are not ended (`TasksFound`)."""
        return f"{self.cluster}.run.{token(instance)}"

    @property
    def chunks(self) -> str:
        """`troupe.out.>`: captured without acknowledgement by the memory stream `troupe_out`."""
        return f"{self.cluster}.out.>"

    def out(self, api: ApiId, request: RequestId) -> str:
        """`troupe.out.{api}.{request}`: a frame with chunks of one request."""
        return f"{self.cluster}.out.{token(api)}.{token(request)}"

    def out_all(self, api: ApiId) -> str:
        """`troupe.out.{api}.all`: a frame with chunks of several requests."""
        return f"{self.cluster}.out.{token(api)}.all"

    def out_of(self, api: ApiId) -> str:
        """`troupe.out.{api}.*`: all frames that are meant for one API actor, in the order they were sent."""
        return f"{self.cluster}.out.{token(api)}.*"

    def owner(self, api: ApiId) -> str:
        """`troupe.own.{api}`: an API actor that lives listens here, and says nothing."""
        return f"{self.cluster}.own.{token(api)}"

    def cancel(self, request: RequestId) -> str:
        """`troupe.ctl.{request}`: soft cancel."""
        return f"{self.cluster}.ctl.{token(request)}"

    @property
    def cancels(self) -> str:
        """`troupe.ctl.*`: all cancels; every runner listens."""
        return f"{self.cluster}.ctl.*"

    # Ranks of one attempt of a split instance among themselves: core NATS; kept by nobody.

    def group(self, instance: InstanceId, attempt: int, what: Literal["present", "rounds", "behind"]) -> str:
        """`troupe.group.{instance}.{attempt}.{what}`: who is where; what all do next; who missed some of it."""
        return f"{self.cluster}.group.{token(instance)}.{attempt}.{what}"

    # Prefixes: core NATS, MessagePack; kept by nobody.

    def prefixes(self, instance: InstanceId) -> str:
        """`troupe.prefix.{instance}`: which beginnings of prompts one runner keeps."""
        return f"{self.cluster}.prefix.{token(instance)}"

    @property
    def all_prefixes(self) -> str:
        """`troupe.prefix.*`: of all runners; every API listens."""
        return f"{self.cluster}.prefix.*"

    # Accounts: stored in the stream `troupe_audit`, JSON.

    def audit(self, model: ModelId, request: RequestId) -> str:
        """`troupe.audit.{model}.{request}`: what a finished request cost."""
        return f"{self.cluster}.audit.{token(model)}.{token(request)}"

    @property
    def audits(self) -> str:
        """`troupe.audit.>`: stored in the stream `troupe_audit`."""
        return f"{self.cluster}.audit.>"

    # Signs of life: core NATS, JSON, 1 Hz.

    def beat(self, node: NodeId) -> str:
        """`troupe.beat.{node}`: load of one node."""
        return f"{self.cluster}.beat.{token(node)}"

    @property
    def beats(self) -> str:
        """`troupe.beat.*`: the load of all nodes."""
        return f"{self.cluster}.beat.*"

    def pulse(self, node: NodeId, instance: InstanceId) -> str:
        """`troupe.beat.{node}.{instance}`: one runner, for the worker that watches it."""
        return f"{self.cluster}.beat.{token(node)}.{token(instance)}"

    def pulses_on(self, node: NodeId) -> str:
        """`troupe.beat.{node}.*`: all runners of one node."""
        return f"{self.cluster}.beat.{token(node)}.*"

    @property
    def pulses(self) -> str:
        """`troupe.beat.*.*`: all runners of the cluster."""
        return f"{self.cluster}.beat.*.*"
