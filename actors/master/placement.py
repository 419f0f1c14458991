"""Where a model goes: the state, as placement sees it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from actors.engine.slots import usual_slots
from actors.master.measured_links import MeasuredLinks
from actors.placement.plans import choose, previews
from actors.placement.question import Question
from actors.placement.shape import Shape, shape_of
from actors.placement.speeds import flop_s, layer_s, read_bytes_s
from actors.placement.topology import Machine, Topology
from schemas.ids import InstanceId, NodeId
from schemas.instance import Instance, Shard, Split
from schemas.model import ModelCard, ModelSpec
from schemas.node_names import in_names
from schemas.plan import Plan, Previews, RefusedPlan
from schemas.split import sharers, splittable
from schemas.state import Node, State

MEMORY_SHARE = 0.8
"""How much of a node's memory models may fill."""
UNREAD = Shape(layer_bytes=(0,), outer_bytes=0, head_bytes=0)
"""A model whose files nobody has read, and one that is simulated: it has room everywhere."""
HALF_BYTES = (1.5, 3.0)
"""Weights of between so many bytes are of half precision: on a CPU they become float32."""
WHOLE: frozenset[Split] = frozenset({"whole"})


Carried = tuple[Instance, Shard]


class Placement(Struct, frozen=True):
    """The nodes that carry a new instance."""

    shards: tuple[Shard, ...]
    split: Split = "whole"


class NoPlace(Struct, frozen=True):
    """No node can carry it; `reason` says what is missing."""

    reason: str
    missing_bytes: int = 0
    """0: memory is not what is missing."""
    absent: bool = False
    """Nodes that may come back are."""


def place(spec: ModelSpec, state: State, but: InstanceId | None = None) -> Placement | NoPlace:
    """Where one more copy of `spec` goes; the instance `but` is counted as gone."""
    question = ask(spec, state, but)
    if isinstance(question, NoPlace):
        return question
    chosen = choose(question)
    if isinstance(chosen, RefusedPlan):
        return NoPlace(f"{spec.id} has no place: {in_names(chosen.reason, state)}", chosen.missing_bytes)
    return Placement(tuple(_shards(chosen)), chosen.split)


def preview(spec: ModelSpec, state: State) -> Previews:
    """All that could be done for one more copy of `spec`, as things are now."""
    if spec.engine == "simulated":
        return _nothing(spec, "it is simulated: it is as fast as it was told to be, and has room everywhere")
    if _card(spec, state) is None:
        return _nothing(spec, "nobody has read its files yet, so that its size is not known")
    question = ask(spec, state)
    if isinstance(question, NoPlace):
        return _nothing(spec, question.reason)
    plans, refused = previews(question)
    told = tuple(msgspec.structs.replace(one, reason=in_names(one.reason, state)) for one in refused)
    return Previews(model=spec.id, plans=tuple(plans), refused=told)


def _nothing(spec: ModelSpec, reason: str) -> Previews:
    return Previews(model=spec.id, plans=(), refused=(RefusedPlan(split="whole", reason=reason),))


def ask(spec: ModelSpec, state: State, but: InstanceId | None = None) -> Question | NoPlace:
    """What placement is asked about `spec`: nodes that carry least first, then those that have the files, then the roomiest."""
    card = _card(spec, state)
    workers = [
        node
        for node in state.nodes.values()
        if node.alive and not node.draining and "worker" in node.roles and node.id not in spec.exclude
    ]
    if spec.node is not None:
        workers = [node for node in workers if node.id == spec.node]
        if not workers:
            why = f"may only run on node {spec.node}, which is not there or is drained"
            return NoPlace(f"{spec.id} {in_names(why, state)}", absent=True)
    if not workers:
        left_out = spec.exclude or any(node.draining for node in state.nodes.values())
        besides = " besides those that are excluded or drained" if left_out else ""
        return NoPlace(f"no node with a worker is there{besides}: start one with `actors up`", absent=True)
    carried = _carried(state, but)
    machines = [_machine(node, card, spec, state, carried[node.id]) for node in workers]
    machines.sort(key=lambda one: (len(carried[one.node]), not one.has(None), -one.free_bytes, one.node))
    splits = WHOLE if card is None or spec.draft else splittable(card.architecture)
    slots = usual_slots(any(node.profile.accelerator == "cpu" for node in workers))
    shape = UNREAD if card is None else _with_draft(shape_of(card, spec, slots), spec, state)
    topology = Topology(tuple(machines), MeasuredLinks(state.links))
    return Question(shape, topology, _until_read(spec, card), splits, without_hybrids(state))


def without_hybrids(state: State) -> NodeId | None:
    """A node of an older version, which could not read of a hybrid: none is made while it is there."""
    there = (node for node in state.nodes.values() if node.alive)
    return next((node.id for node in there if "hybrid" not in node.splits), None)


def fits(instance: Instance, state: State) -> bool:
    """Whether an instance has room where it is, split as it is wished to be: not when its model was read later."""
    question = ask(instance.spec, state, but=instance.id)
    if isinstance(question, NoPlace):
        return False
    free = {machine.node: machine.free_bytes for machine in question.topology.machines}
    return _as_wished(instance) and all(
        _shard_bytes(instance, shard, state.nodes[shard.node], state) <= free.get(shard.node, -1)
        for shard in instance.shards
    )


def _as_wished(instance: Instance) -> bool:
    """Not the one node that was to read the files of a model that is to be split."""
    spec, ranks = instance.spec, len(instance.shards)
    if spec.split:
        return ranks == len(spec.split)
    return spec.strategy in ("auto", instance.split) and ranks >= spec.min_nodes


def free_bytes(node: Node, state: State, carried: Sequence[Carried]) -> int:
    """Memory that models may still fill on a node beside what it carries."""
    profile = node.profile
    usable = int((profile.accelerator_memory_bytes or profile.memory_bytes) * MEMORY_SHARE)
    return usable - sum(_shard_bytes(instance, shard, node, state) for instance, shard in carried)


def _carried(state: State, but: InstanceId | None) -> Mapping[NodeId, Sequence[Carried]]:
    """What each node carries."""
    carried: defaultdict[NodeId, list[Carried]] = defaultdict(list)
    for instance in state.instances.values():
        for shard in instance.shards if instance.id != but else ():
            carried[shard.node].append((instance, shard))
    return carried


def _shard_bytes(instance: Instance, shard: Shard, node: Node, state: State) -> int:
    card = _card(instance.spec, state)
    if card is None:
        return 0
    slots = usual_slots(node.profile.accelerator == "cpu")
    shape = _with_draft(shape_of(card, instance.spec, slots), instance.spec, state)
    first, end = shard.layers or (0, shape.layers)
    ranks = sharers(instance.split, len(instance.shards))
    return int(shape.memory_bytes(first, end, ranks) * _growth(card, node))


def _with_draft(shape: Shape, spec: ModelSpec, state: State) -> Shape:
    """A draft is beside its model, with the cache of one sequence."""
    known = state.card(spec.draft_id, spec.draft)
    if not spec.draft or known is None:
        return shape
    draft = shape_of(known, msgspec.structs.replace(spec, slots=1))
    return msgspec.structs.replace(shape, outer_bytes=shape.outer_bytes + draft.memory_bytes(0, draft.layers))


def _card(spec: ModelSpec, state: State) -> ModelCard | None:
    """What is known of the model's files; nothing matters of what is only simulated."""
    return None if spec.engine == "simulated" else state.card(spec.id, spec.source)


def _until_read(spec: ModelSpec, card: ModelCard | None) -> ModelSpec:
    """One node has to read the files before anything can be split."""
    return spec if card is not None else ModelSpec(id=spec.id, source=spec.source, node=spec.node)


def _machine(
    node: Node, card: ModelCard | None, spec: ModelSpec, state: State, carried: Sequence[Carried]
) -> Machine:
    profile, known = node.profile, state.download(node.id, spec.id)
    growth = 1.0 if card is None else _growth(card, node)
    complete = known is not None and known.status == "complete" and known.source == spec.source
    size = int(growth * card.weights_bytes) if card else 0
    return Machine(
        node=node.id,
        free_bytes=free_bytes(node, state, carried),
        read_bytes_s=read_bytes_s(profile, size),
        shared_bytes_s=lambda ranks: read_bytes_s(profile, size // ranks),
        flop_s=flop_s(profile),
        layer_s=layer_s(profile),
        score_s=profile.score_s,
        growth=growth,
        files=known if complete else None,
    )


def _growth(card: ModelCard, node: Node) -> float:
    """The engine computes in float32 on a CPU."""
    least, most = HALF_BYTES
    half = least <= card.weights_bytes / max(1, card.parameters) < most
    return 2.0 if half and node.profile.accelerator == "cpu" else 1.0


def _shards(plan: Plan) -> Iterator[Shard]:
    """Rank 0 has the last layers, as in mlx-lm's pipelines; in a hybrid rank 1 has them too."""
    ranks = len(plan.parts)
    for index, part in enumerate(plan.parts):
        rank = index if plan.split == "tensor" else ranks - 1 - index
        yield Shard(node=part.node, rank=rank, layers=part.layers)
