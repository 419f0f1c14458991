"""The bytes on the wire, pinned: an old log, an old snapshot and an old runner must still be understood.

A difference here is a change of the protocol: give new fields defaults, never rename or retype.
`UPDATE_GOLDEN=1 pytest tests/schemas/test_golden.py` writes the files of messages that are new.
"""

import os
from pathlib import Path

import msgspec
import pytest

from schemas.audit import Audit
from schemas.chunks import (
    Chunk,
    Ended,
    Failed,
    Frame,
    Prefilled,
    Searched,
    SequenceEnded,
    Started,
    Timings,
    TokenLogprobs,
    Tokens,
    Usage,
)
from schemas.commands import (
    Answer,
    DemandModel,
    Done,
    DrainNode,
    FilesAnswer,
    FilesCommand,
    FilesFound,
    FindFiles,
    FindNewest,
    ForgetNode,
    LinkAnswer,
    LinkLost,
    LinkOpen,
    LinkOrder,
    LoadModel,
    MasterCommand,
    MasterMessage,
    Newest,
    NewestAnswer,
    NodeCommand,
    OpenLink,
    PreviewAnswer,
    PreviewModel,
    PullModel,
    RemoveModel,
    RestartInstance,
    StopNode,
    UnloadModel,
)
from schemas.events import (
    DownloadReported,
    Forgotten,
    InstanceDeleted,
    InstancePlaced,
    InstanceRetired,
    InstanceRetried,
    KnownEvent,
    LeaderElected,
    LinksMeasured,
    ModelDemanded,
    ModelDescribed,
    ModelDesired,
    ModelIdled,
    ModelRemoved,
    ModelUnplaced,
    NodeDrained,
    NodeLeft,
    NodeLost,
    RunnerReported,
)
from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.instance import Instance, Shard
from schemas.link import Link
from schemas.manifest import ListedFile, Manifest
from schemas.model import ModelCard, ModelSpec, SimulatedSpeed
from schemas.node import Beat, Pulse
from schemas.plan import Burden, Plan, Previews, RefusedPlan
from schemas.prefix import Prefixes
from schemas.refused import Refused
from schemas.state import Card, Download, Leader, Links, Model, Node
from schemas.task import (
    Accepted,
    Beams,
    Cancel,
    FindAnswer,
    FindTasks,
    OfferAnswer,
    Sampling,
    Task,
    TasksFound,
    pack_ids,
)
from tests.facts import joined, profile

GOLDEN = Path(__file__).parent.parent / "golden"
NODE, MODEL, INSTANCE, REQUEST = NodeId("n1"), ModelId("org/model.v1"), InstanceId("i1"), RequestId("r1")
SPEC = ModelSpec(id=MODEL, source="hf:org/model.v1@main", context=2048, simulated=SimulatedSpeed())
CARD = ModelCard(
    architecture="llama",
    parameters=1,
    weights_bytes=4,
    vocabulary=8,
    context=16,
    eos_ids=(0, 2),
    artifact="a",
)
SHARDS = (Shard(node=NODE),)
LINK = Link(from_node=NODE, to_node=NodeId("n2"), latency_s=0.001, bandwidth_bytes_s=1e9, address="10.0.0.2")

JSON: list[tuple[object, object]] = [
    (KnownEvent, LeaderElected(node=NODE, term=7)),
    (KnownEvent, ModelDesired(spec=SPEC)),
    (KnownEvent, ModelRemoved(model=MODEL)),
    (KnownEvent, ModelDemanded(model=MODEL)),
    (KnownEvent, ModelIdled(model=MODEL, why="nobody has used it for 600 s")),
    (KnownEvent, ModelUnplaced(model=MODEL, reason="it is too large", missing_bytes=7)),
    (KnownEvent, InstancePlaced(instance=INSTANCE, spec=SPEC, shards=SHARDS)),
    (KnownEvent, InstanceRetried(instance=INSTANCE, attempt=2, shards=SHARDS, why="it failed: killed")),
    (KnownEvent, InstanceRetired(instance=INSTANCE, why="another version is ready")),
    (KnownEvent, InstanceDeleted(instance=INSTANCE, why="the model was unloaded")),
    (KnownEvent, NodeLost(node=NODE, incarnation="x", why="its lease ran out")),
    (KnownEvent, NodeDrained(node=NODE)),
    (KnownEvent, Forgotten(kind="card", id=MODEL, as_of=7)),
    (KnownEvent, NodeLeft(node=NODE, incarnation="x")),
    (KnownEvent, joined("n1", splits=())),
    (
        KnownEvent,
        RunnerReported(instance=INSTANCE, node=NODE, attempt=1, status="failed", reason="why", slots=4),
    ),
    (KnownEvent, DownloadReported(node=NODE, model=MODEL, source="hf:x", status="downloading", bytes_done=1)),
    (KnownEvent, ModelDescribed(model=MODEL, source="hf:x", card=CARD)),
    (KnownEvent, LinksMeasured(node=NODE, links=(LINK,))),
    (MasterCommand, LoadModel(spec=SPEC)),
    (MasterCommand, UnloadModel(model=MODEL)),
    (MasterCommand, RestartInstance(instance=INSTANCE)),
    (MasterCommand, DemandModel(model=MODEL)),
    (MasterCommand, DrainNode(node=NODE)),
    (MasterCommand, ForgetNode(node=NODE)),
    (MasterMessage, PreviewModel(model=MODEL)),
    (NodeCommand, StopNode(node=NodeId("n1"))),
    (LinkOrder, OpenLink(by=NodeId("n1"))),
    (LinkOrder, LinkLost(to=NodeId("n2"))),
    (LinkAnswer, LinkOpen(addresses=("10.0.0.5",), port=7, secret="s")),
    (FilesCommand, FindFiles(source="hf:x")),
    (FilesCommand, PullModel(model=MODEL, source="hf:x", verify=True)),
    (FilesCommand, RemoveModel(model=MODEL, source="hf:x")),
    (FindNewest, FindNewest(source="hf:x")),
    (NewestAnswer, Newest(source="hf:x#0123456789ab")),
    (
        FilesAnswer,
        FilesFound(
            urls=("http://10.0.0.2:4000",),
            token="t",
            manifest=Manifest("c0ffee", (ListedFile("config.json", 2, blob="b"),)),
        ),
    ),
    (Answer, Done(seq=3)),
    (Answer, Refused("not_found", "there is no model x")),
    (
        PreviewAnswer,
        Previews(
            model=MODEL,
            plans=(
                Plan(
                    split="pipeline",
                    parts=(Burden(node=NODE, layers=(0, 2), memory_bytes=5, free_bytes=8, fetch_bytes=3),),
                    tokens_s=12.5,
                    full_tokens_s=100.0,
                    ttft_s=0.5,
                ),
            ),
            refused=(RefusedPlan(split="whole", reason="why", nodes=(NODE,), missing_bytes=7),),
        ),
    ),
    (Cancel, Cancel(request=REQUEST, attempt=1)),
    (Beat, Beat(node=NODE, cpu_percent=1.5, memory_used_bytes=1, memory_free_bytes=2)),
    (
        Pulse,
        Pulse(instance=INSTANCE, attempt=1, steps=2, step_age_s=0.5, step_cpu_s=0.25, slowest_step_s=1.0),
    ),
    (
        Audit,
        Audit(
            request=REQUEST,
            model=MODEL,
            api=ApiId("a"),
            node=NODE,
            outcome="failed",
            code="runner_lost",
            user="ann",
            metadata={"team": "blue"},
            instances=(INSTANCE,),
            first_token_s=0.25,
        ),
    ),
    (Leader, Leader(seq=1, node=NODE, term=7)),
    (
        Node,
        Node(seq=1, id=NODE, incarnation="x", name="n", profile=profile(), roles=("api",), version="0.1.0"),
    ),
    (Model, Model(seq=1, spec=SPEC)),
    (Card, Card(seq=1, model=MODEL, source="hf:x", card=CARD)),
    (Instance, Instance(seq=1, id=INSTANCE, spec=SPEC, shards=SHARDS)),
    (Download, Download(seq=1, node=NODE, model=MODEL, source="hf:x", status="complete", path="/m")),
    (Links, Links(seq=1, node=NODE, links=(LINK,))),
]
PACKED: list[tuple[object, object]] = [
    (
        Task,
        Task(
            request=REQUEST,
            attempt=1,
            api=ApiId("a"),
            model=MODEL,
            prompt=pack_ids([1, 70_000]),
            max_tokens=5,
            sampling=Sampling(temperature=0.5, top_p=0.9, seed=2**63),
            stop_ids=(0, 2),
        ),
    ),
    (OfferAnswer, Accepted(instance=INSTANCE, node=NODE, attempt=2)),
    (Task | FindTasks, FindTasks(attempts=((RequestId("r1"), 1), (RequestId("r2"), 3)))),
    (FindAnswer, TasksFound(attempts=((RequestId("r2"), 3),))),
    (Chunk, Started(REQUEST, 1, INSTANCE, NODE, 2, 16)),
    (Beams, Beams(width=4, length_penalty=0.5, early_stopping="never", stops=("x",))),
    (Chunk, Prefilled(REQUEST, 1, 256, 1024)),
    (Chunk, Searched(REQUEST, 1, 12)),
    (
        Chunk,
        Tokens(
            REQUEST,
            1,
            0,
            3,
            pack_ids([5, 6]),
            (TokenLogprobs(-0.5, (5, 7), (-0.5, -1.5)), TokenLogprobs(-1.0)),
        ),
    ),
    (Chunk, SequenceEnded(REQUEST, 1, 0, "stop")),
    (Chunk, Ended(REQUEST, 1, Usage(10, 5, 2), Timings(0.25, 0.5, 1.0))),
    (Chunk, Failed(REQUEST, 1, "engine_failed", "why")),
    (Prefixes, Prefixes(INSTANCE, 2, 7, False, b"12345678", b"abcdefgh")),
]


def pinned(name: str, encoded: bytes) -> bytes:
    file = GOLDEN / name
    if not file.exists() and os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_bytes(encoded)
    assert file.exists(), f"{name} is new: write it with UPDATE_GOLDEN=1"
    return file.read_bytes()


@pytest.mark.parametrize(("kind", "message"), JSON, ids=lambda value: type(value).__name__)
def test_json(kind: object, message: object) -> None:
    golden = pinned(
        f"{type(message).__name__}.json", msgspec.json.format(msgspec.json.encode(message)) + b"\n"
    )
    assert msgspec.json.decode(golden, type=kind) == message
    assert msgspec.json.decode(msgspec.json.encode(message)) == msgspec.json.decode(golden)


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("older/*.json")), ids=lambda file: file.stem)
def test_what_an_older_version_wrote_is_read(file: Path) -> None:
    """A message that has gained fields since: its older form stays in `older/`, and reads as today's with defaults."""
    kind, message = next(pair for pair in JSON if type(pair[1]).__name__ == file.stem)
    assert msgspec.json.decode(file.read_bytes(), type=kind) == message


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("older/*.msgpack")), ids=lambda file: file.stem)
def test_what_an_older_version_packed_is_read(file: Path) -> None:
    kind, message = next(pair for pair in PACKED if type(pair[1]).__name__ == file.stem)
    assert msgspec.msgpack.decode(file.read_bytes(), type=kind) == message


@pytest.mark.parametrize(("kind", "message"), PACKED, ids=lambda value: type(value).__name__)
def test_packed(kind: object, message: object) -> None:
    golden = pinned(f"{type(message).__name__}.msgpack", msgspec.msgpack.encode(message))
    assert msgspec.msgpack.decode(golden, type=kind) == message
    assert msgspec.msgpack.encode(message) == golden


def test_a_frame_is_a_list_of_chunks() -> None:
    frame: Frame = [Started(REQUEST, 1, INSTANCE, NODE, 2), Tokens(REQUEST, 1, 0, 0, pack_ids([7]))]
    golden = pinned("Frame.msgpack", msgspec.msgpack.encode(frame))
    assert msgspec.msgpack.decode(golden, type=Frame) == frame
    assert msgspec.msgpack.encode(frame) == golden


def test_every_event_is_pinned() -> None:
    assert {type(message) for kind, message in JSON if kind is KnownEvent} == set(KnownEvent.__args__)


def test_the_prompt_is_little_endian_u32() -> None:
    assert pack_ids([1, 70_000]) == b"\1\0\0\0\x70\x11\1\0"
