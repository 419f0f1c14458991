"""Which models a node needs, which layers of them, and for which lives of their instances."""

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from actors.downloader.sources.source import Need
from schemas.files import earlier_id
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Instance
from schemas.state import State

Life = tuple[InstanceId, int]
"""An instance and its attempt."""
PULLED = InstanceId("pulled")
"""Stands for nobody's life: somebody has asked for the files alone."""


def is_pulled(lives: frozenset[Life]) -> bool:
    return any(instance == PULLED for instance, _ in lives)


class Wanted(Struct, frozen=True):
    """One model that a node needs, and who needs it."""

    source: str
    lives: frozenset[Life]
    need: Need = None
    verify: bool = False
    """Read every byte that is here already."""
    earlier: bool = False
    """Of a version that others take the place of: what its files say is known."""


class Part(Struct, frozen=True):
    """What one shard needs: of one model, from one source, these layers (None: all)."""

    model: ModelId
    source: str
    layers: tuple[int, int] | None
    instance: Instance


def wanted(state: State, node: NodeId) -> dict[ModelId, Wanted]:
    """By the names under which files are known: while a model changes its source, the desired one has the model's."""
    parts: defaultdict[ModelId, list[Part]] = defaultdict(list)
    for instance in state.instances.values():
        for part in parts_of(instance, node):
            parts[part.model].append(part)
    found: dict[ModelId, Wanted] = {}
    for model, each in parts.items():
        own = _own_source(state, model, each)
        for source in {part.source for part in each}:
            name = model if source == own else earlier_id(model, source)
            found[name] = _of_source(source, each, earlier=source != own)
    return found


def parts_of(instance: Instance, node: NodeId) -> Iterator[Part]:
    """Everything that `instance` needs on `node`: its model, or layers of it, and its draft."""
    spec = instance.spec
    for shard in instance.shards:
        if shard.node == node:
            yield Part(spec.id, spec.source, shard.layers, instance)
            if spec.draft:
                yield Part(spec.draft_id, spec.draft, None, instance)


def _own_source(state: State, model: ModelId, parts: list[Part]) -> str:
    """What is desired now, if it is placed here; else what was placed last."""
    desired = state.models.get(model)
    if desired is not None and desired.spec.source in {part.source for part in parts}:
        return desired.spec.source
    return max(parts, key=lambda part: part.instance.seq).source


def _of_source(source: str, parts: list[Part], *, earlier: bool) -> Wanted:
    chosen = [part for part in parts if part.source == source]
    lives = frozenset((part.instance.id, part.instance.attempt) for part in chosen)
    return Wanted(source, lives, together([part.layers for part in chosen]), earlier=earlier)


def together(runs: list[tuple[int, int] | None]) -> Need:
    """All of `runs`, in order, with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for run in sorted(run for run in runs if run is not None):
        if merged and run[0] <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], run[1]))
        else:
            merged.append(run)
    return None if None in runs else tuple(merged)


def covers(here: Need, need: Need) -> bool:
    """Whether whoever has `here` has all of `need`."""
    if here is None or need is None:
        return here is None
    return all(any(first <= run[0] and run[1] <= end for first, end in here) for run in need)
