"""`actors load` and `unload` against a leader that is played by the test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from actors.machine.node_info import NodeInfo
from bus.bus import Bus
from bus.server import Server
from schemas.commands import Done, LoadModel, MasterCommand, UnloadModel
from schemas.events import (
    Decided,
    DownloadReported,
    DownloadStatus,
    InstanceDeleted,
    InstancePlaced,
    LeaderElected,
    ModelDesired,
    ModelRemoved,
    ModelUnplaced,
    RunnerReported,
    Seen,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import RunnerStatus, Shard
from schemas.model import ModelSpec, Share
from schemas.refused import Refused
from tests.cli.command import actors
from tests.facts import joined

N1, I1 = NodeId("n1"), InstanceId("i1")
Story = Callable[[ModelSpec], list[Seen]]


class Leader:
    """Places what is to be loaded on node n1, and then says what the test's story says."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.last = 0
        self.orders: list[Struct] = []
        self.story: Story = lambda _: []
        self.refusal: Refused | None = None
        self.lack = ""

    async def decide(self, event: Decided) -> int:
        self.last = await self.bus.log.decide(event, 1, self.last)
        return self.last

    async def carry_out(self, order: MasterCommand) -> Struct:
        self.orders.append(order)
        if self.refusal is not None:
            return self.refusal
        match order:
            case LoadModel(spec=spec):
                seq = await self.decide(ModelDesired(spec=spec))
                if self.lack:
                    await self.decide(ModelUnplaced(model=spec.id, reason=self.lack, missing_bytes=7))
                    return Done(seq=seq)
                seq = await self.decide(InstancePlaced(instance=I1, spec=spec, shards=(Shard(node=N1),)))
                for fact in self.story(spec):
                    await self.bus.log.record(fact)
                return Done(seq=seq)
            case UnloadModel(model=model):
                await self.decide(ModelRemoved(model=model))
                return Done(seq=await self.decide(InstanceDeleted(instance=I1, why="the model was unloaded")))
        raise AssertionError(order)


@pytest.fixture
async def leader(bus: Bus) -> AsyncIterator[Leader]:
    played = Leader(bus)
    await bus.log.record(joined("n1", name="hera"))
    await played.decide(LeaderElected(node=N1, term=1))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(bus.serving(bus.subjects.master, MasterCommand, played.carry_out))
        yield played


def report(status: RunnerStatus, **more: Any) -> RunnerReported:
    return RunnerReported(instance=I1, node=N1, attempt=1, status=status, **more)


def until_ready(spec: ModelSpec) -> list[Seen]:
    def bring(status: DownloadStatus, done: int) -> DownloadReported:
        return DownloadReported(
            node=N1, model=spec.id, source=spec.source, status=status, bytes_done=done, bytes_total=100
        )

    return [
        bring("downloading", 40),
        bring("complete", 100),
        report("loading"),
        report("warming"),
        report("ready"),
    ]


async def test_load_waits_until_the_model_is_ready(leader: Leader, nats_server: Server) -> None:
    leader.story = until_ready
    ran = await actors("load", "guide", "--nats", nats_server.url)
    assert (ran.code, ran.out) == (0, "guide is ready. Talk to it: actors chat guide\n")
    assert leader.orders == [LoadModel(spec=ModelSpec(id=ModelId("guide"), source="builtin:guide"))]


async def test_load_says_for_programs_how_it_ended(leader: Leader, nats_server: Server) -> None:
    leader.story = until_ready
    ran = await actors("load", "guide", "--json", "--nats", nats_server.url)
    assert (ran.code, ran.err) == (0, "")
    assert (ran.json["model"], ran.json["progress"]["stage"]) == ("guide", "ready")


async def test_every_option_reaches_the_leader(leader: Leader, nats_server: Server) -> None:
    speed = ["--prefill", "1000", "--decode", "50", "--load-s", "2", "--slots", "8"]
    ran = await actors(
        *("load", "org/m@v1", "--id", "mine", "--replicas", "2", "--context", "64", "--node", "hera"),
        *("--cache-bytes", "1000", "--batch-bytes", "2000"),
        *("--engine", "simulated", *speed, "--no-wait", "--nats", nats_server.url),
    )
    assert ran.code == 0
    assert "mine is asked for (event " in ran.out
    (order,) = leader.orders
    assert isinstance(order, LoadModel)
    spec = order.spec
    assert (spec.id, spec.source, spec.replicas, spec.context, spec.node) == (
        "mine",
        "hf:org/m@v1",
        2,
        64,
        "n1",
    )
    assert spec.simulated is not None
    assert (spec.engine, spec.simulated.prefill, spec.simulated.decode) == ("simulated", 1000, 50)
    assert (spec.simulated.load_s, spec.slots) == (2, 8)
    assert (spec.cache_bytes, spec.batch_bytes) == (1000, 2000)


async def test_a_draft_reaches_the_leader(leader: Leader, nats_server: Server) -> None:
    options = ("--draft", "org/small@v1", "--draft-tokens", "6", "--no-wait", "--nats", nats_server.url)
    assert (await actors("load", "org/m", *options)).code == 0
    (order,) = leader.orders
    assert isinstance(order, LoadModel)
    assert (order.spec.draft, order.spec.draft_tokens) == ("hf:org/small@v1", 6)


async def test_what_was_pulled_just_now_reaches_a_leader_that_has_not_heard_of_it(
    leader: Leader, nats_server: Server
) -> None:
    source = "hf:org/m#0123456789ab"
    pulled = DownloadReported(
        node=N1, model=ModelId("org/m#0123456789ab"), source=source, status="complete", pulled=True
    )
    await leader.bus.log.record(pulled)
    ran = await actors("load", "org/m", "--no-wait", "--json", "--nats", nats_server.url)
    assert (ran.code, ran.json["source"]) == (0, source)
    assert leader.orders == [LoadModel(spec=ModelSpec(id=ModelId("org/m"), source=source))]


async def test_wishes_of_place_reach_the_leader(leader: Leader, nats_server: Server) -> None:
    await leader.bus.log.record(joined("n2", name="zeus"))
    ran = await actors(
        *(
            "load",
            "guide",
            "--strategy",
            "pipeline",
            "--min-nodes",
            "2",
            "--exclude",
            "n1",
            "--split",
            "zeus:3,hera:4",
        ),
        *("--objective", "throughput", "--no-wait", "--nats", nats_server.url),
    )
    assert ran.code == 0, ran.err
    (order,) = leader.orders
    assert isinstance(order, LoadModel)
    spec = order.spec
    assert (spec.strategy, spec.min_nodes, spec.exclude, spec.objective) == (
        "pipeline",
        2,
        (N1,),
        "throughput",
    )
    assert spec.split == (Share(node=NodeId("n2"), layers=(0, 3)), Share(node=N1, layers=(3, 7)))


async def test_the_nodes_of_a_hybrid_are_named_in_pairs(leader: Leader, nats_server: Server) -> None:
    for node in ("n2", "n3", "n4"):
        await leader.bus.log.record(joined(node))
    options = (
        "--strategy",
        "hybrid",
        "--split",
        "n2:3,hera:3,n4:5,n3:5",
        "--no-wait",
        "--nats",
        nats_server.url,
    )
    ran = await actors("load", "guide", *options)
    assert ran.code == 0, ran.err
    (order,) = leader.orders
    assert isinstance(order, LoadModel)
    assert order.spec.strategy == "hybrid"
    assert [(share.node, share.layers) for share in order.spec.split] == [
        ("n2", (0, 3)),
        (N1, (0, 3)),
        ("n4", (3, 8)),
        ("n3", (3, 8)),
    ]


async def test_a_model_that_has_no_place_ends_the_waiting(leader: Leader, nats_server: Server) -> None:
    leader.lack = "it is too large"
    ran = await actors("load", "guide", "--nats", nats_server.url)
    assert ran.code == 1
    assert "guide is not ready (waiting): it is too large (7 bytes are missing)." in ran.err


async def test_a_model_that_fails_ends_with_its_reason_and_1(leader: Leader, nats_server: Server) -> None:
    leader.story = lambda _: [
        report(
            "failed", reason="model.safetensors is cut short", diagnostics="line 1\nline 2", retryable=False
        )
    ]
    ran = await actors("load", "guide", "--nats", nats_server.url)
    assert ran.code == 1
    assert "guide is not ready (failed): model.safetensors is cut short." in ran.err
    assert "  line 2" in ran.err


async def test_waiting_ends_when_nothing_happens(leader: Leader, nats_server: Server) -> None:
    ran = await actors("load", "guide", "--timeout", "0.3", "--json", "--nats", nats_server.url)
    assert ran.code == 1
    assert ran.json["progress"]["stage"] == "starting"
    assert "nothing has happened for 0.3 s" in ran.json["progress"]["reason"]


async def test_a_refusal_is_told(leader: Leader, nats_server: Server) -> None:
    leader.refusal = Refused("bad_request", "there is no node n9")
    ran = await actors("load", "guide", "--nats", nats_server.url)
    assert (ran.code, ran.err) == (1, "actors: there is no node n9\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["giude"], 2, "did you mean 'guide'?"),
        (["guide", "--node", "hrea"], 1, "there is no node 'hrea'; did you mean 'hera'?"),
        (["guide", "--strategy", "pipelin"], 2, "did you mean 'pipeline'?"),
        (["guide", "--strategy", "hybird"], 2, "did you mean 'hybrid'?"),
        (["guide", "--objective", "speed"], 2, "one of latency, throughput"),
        (["guide", "--exclude", "hrea"], 1, "there is no node 'hrea'"),
        (["guide", "--split", "hera:x,hera:2"], 2, "--split says 'hera:x'"),
        (["guide", "--min-nodes", "0"], 2, "--min-nodes"),
        (["guide", "--id", "x" * 300], 2, "Expected `str` of length <= 200"),
    ],
)
async def test_what_cannot_be_asked_for(
    leader: Leader, nats_server: Server, arguments: list[str], code: int, said: str
) -> None:
    ran = await actors("load", *arguments, "--nats", nats_server.url)
    assert (ran.code, said.lower() in ran.err.lower()) == (code, True)
    assert leader.orders == []


async def test_a_folder_is_bound_to_the_node_of_the_data_folder(
    leader: Leader, nats_server: Server, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "m").mkdir()
    info = NodeInfo(node_id=N1, pid=1, nats_url=nats_server.url)
    (tmp_path / "d" / "node.json").write_bytes(msgspec.json.encode(info))
    ran = await actors("load", str(tmp_path / "m"), "--no-wait", "--data-dir", str(tmp_path / "d"))
    assert ran.code == 0
    assert leader.orders == [
        LoadModel(spec=ModelSpec(id=ModelId("m"), source=str((tmp_path / "m").resolve()), node=N1))
    ]


async def test_unload_waits_until_it_is_gone(leader: Leader, nats_server: Server) -> None:
    leader.story = until_ready
    await actors("load", "guide", "--nats", nats_server.url)
    ran = await actors("unload", "guide", "--nats", nats_server.url)
    assert (ran.code, ran.out) == (0, "guide is no longer served.\n")
    leader.refusal = Refused("not_found", "there is no model guid; did you mean guide?")
    ran = await actors("unload", "guid", "--nats", nats_server.url)
    assert (ran.code, "did you mean guide?" in ran.err) == (1, True)


async def test_progress_is_told_in_lines_where_there_is_no_terminal(
    leader: Leader, nats_server: Server
) -> None:
    leader.story = lambda _: [report("loading")]
    ran = await actors("load", "guide", "--timeout", "0.3", "--nats", nats_server.url)
    assert ran.err.startswith("guide: loading\n")
