"""How far the cluster has come with a model, read from its state."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from schemas.ids import ModelId
from schemas.instance import Instance
from schemas.state import Download, Model, State
from schemas.version import same_form

Stage = Literal[
    "unloaded", "idle", "waiting", "downloading", "starting", "loading", "warming", "ready", "failed"
]
FURTHEST: tuple[Stage, ...] = ("waiting", "starting", "downloading", "loading", "warming", "ready")
PATIENCE = 3
"""Failures in a row after which nobody should wait any more, though the cluster goes on trying."""


class Progress(Struct, frozen=True, kw_only=True):
    """One model's way to being served; `ready` of `wanted` instances are."""

    stage: Stage
    ready: int = 0
    wanted: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    reason: str = ""
    diagnostics: str = ""
    final: bool = False
    """Waiting longer changes nothing."""
    on_demand: bool = False
    """Requests load it."""
    older: int = 0
    """Instances of another version or form that serve until it is ready, or end what they have."""


def progress_of(state: State, model: ModelId) -> Progress:
    """How far `model` is."""
    wished = state.models.get(model)
    if wished is None:
        return Progress(stage="unloaded", final=True)
    spec, all_of_it = wished.spec, state.instances_of(model)
    instances = [each for each in all_of_it if same_form(each.spec, spec) and not each.retired]
    ready = sum(instance.status == "ready" for instance in instances)
    older = len(all_of_it) - len(instances)
    if not wished.wanted:
        step = Progress(stage="idle", reason=wished.idled_why, final=True)
    elif ready >= wished.wanted:
        step = Progress(stage="ready", final=True)
    else:
        step = _unready(state, wished, instances)
    return replace(step, ready=ready, wanted=wished.wanted, on_demand=spec.on_demand, older=older)


def _unready(state: State, wished: Model, instances: list[Instance]) -> Progress:
    steps = [_step(state, instance) for instance in instances if instance.status != "ready"]
    return max(steps, key=_rank) if steps else _without(wished)


def _rank(step: Progress) -> int:
    """What is said first: a failure for good, then who has come furthest."""
    if step.stage == "failed":
        return 100 if step.final else -1
    return FURTHEST.index(step.stage)


def _step(state: State, instance: Instance) -> Progress:
    if instance.status == "failed":
        return Progress(
            stage="failed",
            reason=instance.reason,
            diagnostics=instance.diagnostics,
            final=not instance.retryable or instance.failures >= PATIENCE,
        )
    if instance.status != "placed":
        return Progress(stage=instance.status)
    spec = instance.spec
    downloads = [
        state.download(shard.node, model) for shard in instance.shards for model in (spec.id, spec.draft_id)
    ]
    return _download_step([download for download in downloads if download is not None], instance)


def _download_step(downloads: list[Download], instance: Instance) -> Progress:
    fresh = [
        download for download in downloads if download.source in (instance.spec.source, instance.spec.draft)
    ]
    for download in fresh:
        if (
            download.status == "failed" and download.seq > instance.seq
        ):  # an older one was for an earlier life
            of = "" if download.model == instance.spec.id else f"{download.model}: "
            return Progress(stage="failed", reason=of + download.reason, final=not download.retryable)
    going = [download for download in fresh if download.status == "downloading"]
    if not going:
        return Progress(stage="starting", reason=instance.reason)
    return Progress(
        stage="downloading",
        bytes_done=sum(download.bytes_done for download in going),
        bytes_total=sum(download.bytes_total for download in going),
    )


def _without(model: Model) -> Progress:
    """No instance has a place: the leader has said why, or is about to give it one."""
    missing = f" ({model.missing_bytes} bytes are missing)" if model.missing_bytes else ""
    final = bool(model.unplaced) and not model.absent
    return Progress(stage="waiting", reason=model.unplaced + missing, final=final)
