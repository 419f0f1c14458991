"""Generated histories of a cluster: any order of any events about few entities, so that they meet."""

from hypothesis import strategies as st

from schemas.events import (
    DownloadReported,
    Event,
    Forgotten,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetried,
    LeaderElected,
    LinksMeasured,
    ModelDescribed,
    ModelDesired,
    ModelRemoved,
    ModelUnplaced,
    NodeDrained,
    NodeJoined,
    NodeLeft,
    NodeLost,
    Recorded,
    RunnerReported,
    UnknownEvent,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.link import Link
from schemas.model import ModelCard, ModelSpec
from tests.facts import profile

nodes = st.sampled_from([NodeId("n1"), NodeId("n2")])
models = st.sampled_from([ModelId("guide"), ModelId("org/model.v1")])
instances = st.sampled_from([InstanceId("i1"), InstanceId("i2")])
incarnations = st.sampled_from(["a", "b"])
specs = st.builds(ModelSpec, id=models, source=st.just("builtin:guide"), replicas=st.integers(0, 3))
shards = st.builds(lambda node: (Shard(node=node),), nodes)
words = st.text(max_size=8)
attempts = st.integers(1, 4)
card = ModelCard(
    architecture="llama", parameters=1, weights_bytes=4, vocabulary=8, context=16, eos_ids=(0,), artifact="a"
)
links = st.builds(
    Link, from_node=nodes, to_node=nodes, latency_s=st.floats(0, 1), bandwidth_bytes_s=st.floats(1, 1e9)
)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(LeaderElected, node=nodes, term=st.integers(1, 9)),
    st.builds(ModelDesired, spec=specs),
    st.builds(ModelRemoved, model=models),
    st.builds(ModelUnplaced, model=models, reason=words, missing_bytes=st.integers(0, 9)),
    st.builds(InstancePlaced, instance=instances, spec=specs, shards=shards),
    st.builds(InstanceRetried, instance=instances, attempt=attempts, shards=shards, why=words),
    st.builds(InstanceDeleted, instance=instances, why=words),
    st.builds(NodeLost, node=nodes, incarnation=incarnations, why=words),
    st.builds(NodeDrained, node=nodes, draining=st.booleans()),
    st.builds(Forgotten, kind=st.just("node"), id=nodes, as_of=st.integers(1, 30)),
    st.builds(Forgotten, kind=st.just("card"), id=models, as_of=st.integers(1, 30)),
    st.builds(NodeLeft, node=nodes, incarnation=incarnations),
    st.builds(
        NodeJoined,
        node=nodes,
        incarnation=incarnations,
        name=words,
        profile=st.just(profile()),
        roles=st.just(("worker",)),
        version=words,
    ),
    st.builds(
        RunnerReported,
        instance=instances,
        node=nodes,
        attempt=attempts,
        status=st.sampled_from(["starting", "loading", "warming", "ready", "failed"]),
        reason=words,
        retryable=st.booleans(),
    ),
    st.builds(
        DownloadReported,
        node=nodes,
        model=models,
        source=words,
        status=st.sampled_from(["downloading", "complete", "failed"]),
        bytes_done=st.integers(0, 9),
    ),
    st.builds(ModelDescribed, model=models, source=words, card=st.just(card)),
    st.builds(LinksMeasured, node=nodes, links=st.lists(links, max_size=2).map(tuple)),
)
unknown = st.builds(UnknownEvent, type=words, raw=st.binary(max_size=4))


def histories(max_size: int = 40) -> st.SearchStrategy[list[Recorded]]:
    """Lists of recorded events with growing sequences (not without gaps) and times."""
    steps = st.tuples(st.integers(1, 3), st.floats(0, 100), st.one_of(events, unknown))
    return st.lists(steps, max_size=max_size).map(_recorded)


def _recorded(steps: list[tuple[int, float, Event | UnknownEvent]]) -> list[Recorded]:
    history: list[Recorded] = []
    seq, time = 0, 0.0
    for gap, pause, event in steps:
        seq, time = seq + gap, time + pause
        history.append(Recorded(seq=seq, time=time, event=event))  # type: ignore[arg-type]  # all are known events
    return history
