"""The cluster's state as the lists that people and programs ask for; pure."""

from typing import Literal

from msgspec import Struct

from actors.cli.progress import Progress, Stage, progress_of
from schemas.events import DownloadStatus
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance, InstanceStatus
from schemas.link import Link
from schemas.node import Beat, NodeProfile, Pulse, Role
from schemas.presence import is_draining
from schemas.state import Node, State
from schemas.version import same_form


class FileRow(Struct, frozen=True, kw_only=True):
    """How far one node has come with a model's files."""

    node: NodeId
    name: str
    status: DownloadStatus
    source: str
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_outside: int = 0
    bytes_peers: int = 0
    layers: tuple[tuple[int, int], ...] | None = None
    path: str = ""
    reason: str = ""


class OlderRow(Struct, frozen=True, kw_only=True):
    """An instance of a model as it was wished for before, or one that leaves."""

    instance: InstanceId
    source: str
    status: InstanceStatus
    retired: str = ""
    """Why it takes nothing new; empty: it serves."""


class ModelRow(Struct, frozen=True, kw_only=True):
    """A wished-for model and how far it is."""

    id: ModelId
    source: str
    engine: str
    stage: Stage
    ready: int
    replicas: int
    reason: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    architecture: str = ""
    parameters: int = 0
    weights_bytes: int = 0
    context: int = 0
    files: list[FileRow] = []
    """Where its files are, and how far they have come."""
    on_demand: bool = False
    idle_timeout_s: float | None = None
    """Of one that is loaded on demand and does not stay: how long it may go unused; seconds."""
    older: list[OlderRow] = []
    """Instances of another form that serve until it is ready, or end what they have."""


Standing = Literal["serves", "older", "draining", "retired"]
"""`older`: it serves until copies of what is wished for now are ready; `draining`: until another one takes its place, for its
node is drained; `retired`: it takes nothing new, and ends what it has."""


class NodeRow(Struct, frozen=True, kw_only=True):
    """A node, what it offers, and its load where it was heard."""

    id: NodeId
    name: str
    alive: bool
    leader: bool
    roles: tuple[Role, ...]
    version: str
    since: float
    api_url: str
    addresses: tuple[str, ...]
    links: tuple[Link, ...]
    """Its ways to other nodes, as it has measured them."""
    why: str
    profile: NodeProfile
    models: tuple[ModelId, ...] = ()
    """What it carries, one entry for each instance."""
    draining: bool = False
    beat: Beat | None = None


class InstanceRow(Struct, frozen=True, kw_only=True):
    """One placed copy of a model."""

    id: InstanceId
    model: ModelId
    nodes: tuple[str, ...]
    status: InstanceStatus
    attempt: int
    failures: int
    slots: int
    ready_at: float
    reason: str
    diagnostics: str
    standing: Standing = "serves"
    retired: str = ""
    """Why it takes nothing new."""
    requests: int | None = None
    """That it has taken up and not ended, where it was heard."""


class LeaderRow(Struct, frozen=True, kw_only=True):
    """Who decides."""

    node: NodeId
    name: str
    term: int


class Status(Struct, frozen=True, kw_only=True):
    """The whole cluster at a glance."""

    cluster: str
    nats_url: str
    seq: int
    leader: LeaderRow | None
    nodes: list[NodeRow]
    models: list[ModelRow]
    instances: list[InstanceRow]


def model_rows(state: State) -> list[ModelRow]:
    """What is to be served, then what only lies on disks."""
    kept = {each.model for each in state.downloads.values()} - state.models.keys()
    return [_model_row(state, model) for model in sorted(state.models)] + [
        _kept_row(state, model) for model in sorted(kept)
    ]


def file_rows(state: State, model: ModelId) -> list[FileRow]:
    """By the names of the nodes; of those that are known."""
    rows = [
        FileRow(
            node=each.node,
            name=name_of(state, each.node),
            status=each.status,
            source=each.source,
            bytes_done=each.bytes_done,
            bytes_total=each.bytes_total,
            bytes_outside=each.bytes_outside,
            bytes_peers=each.bytes_peers,
            layers=each.layers,
            path=each.path,
            reason=each.reason,
        )
        for each in state.downloads.values()
        if each.model == model and each.node in state.nodes
    ]
    return sorted(rows, key=lambda row: (row.name, row.node))


def _kept_row(state: State, model: ModelId) -> ModelRow:
    files = file_rows(state, model)
    found = state.cards.get(model)
    return ModelRow(
        id=model,
        source=files[0].source if files else "",
        engine="",
        stage="unloaded",
        ready=0,
        replicas=0,
        architecture=found.card.architecture if found else "",
        parameters=found.card.parameters if found else 0,
        weights_bytes=found.card.weights_bytes if found else 0,
        context=found.card.context if found else 0,
        files=files,
    )


def _model_row(state: State, model: ModelId) -> ModelRow:
    spec, progress = state.models[model].spec, progress_of(state, model)
    card = state.card(model, spec.source)
    return ModelRow(
        id=model,
        source=spec.source,
        engine=spec.engine,
        stage=progress.stage,
        ready=progress.ready,
        replicas=spec.replicas,
        reason=progress.reason,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        architecture=card.architecture if card else "",
        parameters=card.parameters if card else 0,
        weights_bytes=card.weights_bytes if card else 0,
        context=spec.context or (card.context if card else 0),
        files=file_rows(state, model),
        on_demand=spec.on_demand,
        idle_timeout_s=spec.idle_after_s,
        older=[
            OlderRow(instance=one.id, source=one.spec.source, status=one.status, retired=one.retired)
            for one in state.instances_of(model)
            if one.retired or not same_form(one.spec, spec)
        ],
    )


def node_rows(state: State, beats: dict[NodeId, Beat] | None = None) -> list[NodeRow]:
    """The nodes by name, those that are there first."""
    rows = [_node_row(state, node, (beats or {}).get(node.id)) for node in state.nodes.values()]
    return sorted(rows, key=lambda row: (not row.alive, row.name, row.id))


def _node_row(state: State, node: Node, beat: Beat | None) -> NodeRow:
    return NodeRow(
        id=node.id,
        name=node.name,
        alive=node.alive,
        draining=node.draining,
        leader=node.alive and state.leader is not None and state.leader.node == node.id,
        roles=node.roles,
        version=node.version,
        since=node.since,
        api_url=node.api_url,
        addresses=node.addresses,
        links=state.links[node.id].links if node.id in state.links else (),
        why=node.lost_why,
        profile=node.profile,
        models=tuple(one.spec.id for one in state.instances.values() if node.id in one.nodes),
        beat=beat,
    )


def standing(state: State, one: Instance) -> Standing:
    """Whether it is here to stay."""
    model = state.models.get(one.spec.id)
    if one.retired:
        return "retired"
    if model is not None and not same_form(one.spec, model.spec):
        return "older"
    return "draining" if is_draining(state, one) else "serves"


def instance_rows(state: State, pulses: dict[InstanceId, Pulse] | None = None) -> list[InstanceRow]:
    heard = pulses or {}
    rows = [
        InstanceRow(
            id=one.id,
            model=one.spec.id,
            nodes=tuple(name_of(state, shard.node) for shard in one.shards),
            status=one.status,
            attempt=one.attempt,
            failures=one.failures,
            slots=one.slots,
            ready_at=one.ready_at,
            reason=one.reason,
            diagnostics=one.diagnostics,
            standing=standing(state, one),
            retired=one.retired,
            requests=heard[one.id].running if one.id in heard else None,
        )
        for one in state.instances.values()
    ]
    return sorted(rows, key=lambda row: (row.model, row.id))


def status_of(state: State, cluster: str, nats_url: str) -> Status:
    leader = state.leader
    return Status(
        cluster=cluster,
        nats_url=nats_url,
        seq=state.seq,
        leader=leader and LeaderRow(node=leader.node, name=name_of(state, leader.node), term=leader.term),
        nodes=node_rows(state),
        models=model_rows(state),
        instances=instance_rows(state),
    )


def name_of(state: State, node: NodeId) -> str:
    """What people call a node."""
    return state.nodes[node].name if node in state.nodes else node


def stage_words(progress: Progress | ModelRow) -> str:
    """What to say behind the stage's name: `43 %`, `1 of 2`, a reason."""
    if progress.stage == "downloading" and progress.bytes_total:
        return f" {100 * progress.bytes_done // progress.bytes_total} %"
    wanted = progress.wanted if isinstance(progress, Progress) else progress.replicas
    several = f" {progress.ready} of {wanted}" if wanted > 1 and progress.stage != "idle" else ""
    demand = ", on demand" if progress.on_demand else ""
    older = _older_words(progress.older)
    said = several + demand + (f", {older}" if older else "")
    return f"{said}: {progress.reason}" if progress.reason else said


def _older_words(older: int | list[OlderRow]) -> str:
    """`1 older copy`: its like is listed by `actors models --json` and `actors instances`."""
    count = older if isinstance(older, int) else len(older)
    return "" if not count else f"{count} older {'copy' if count == 1 else 'copies'}"
