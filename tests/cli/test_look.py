"""Looking at a cluster: its state was put into the log of a real bus by hand."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from actors.cli.rows import instance_rows
from bus.bus import Bus
from bus.server import Server
from schemas.commands import PreviewModel
from schemas.events import (
    InstancePlaced,
    InstanceRetired,
    LeaderElected,
    ModelDescribed,
    ModelDesired,
    NodeDrained,
    NodeLost,
    RunnerReported,
)
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.model import ModelCard, ModelSpec
from schemas.node import Beat, Pulse
from schemas.plan import Burden, Plan, Previews, RefusedPlan
from tests.cli.command import HERE, Ran, actors, environment
from tests.facts import joined

Look = Callable[..., Awaitable[Ran]]
GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide")
OTHER = ModelSpec(id=ModelId("org/other"), source="hf:org/other")
CARD = ModelCard(
    architecture="llama",
    parameters=1_234_567,
    weights_bytes=5_000_000,
    vocabulary=768,
    context=512,
    eos_ids=(2,),
    artifact="guide",
)


@pytest.fixture
async def cluster(bus: Bus) -> Bus:
    """Two nodes, of which one was lost; a model that is ready, and one that waits. Ten events."""
    n1, first = NodeId("n1"), InstanceId("i1")
    await bus.log.record(joined("n1", name="hera", api_url="http://127.0.0.1:8123"))
    await bus.log.record(joined("n2", name="zeus"))
    seq = await bus.log.decide(LeaderElected(node=n1, term=7), 7, 0)
    seq = await bus.log.decide(ModelDesired(spec=GUIDE), 7, seq)
    seq = await bus.log.decide(InstancePlaced(instance=first, spec=GUIDE, shards=(Shard(node=n1),)), 7, seq)
    await bus.log.record(ModelDescribed(model=GUIDE.id, source=GUIDE.source, card=CARD))
    await bus.log.record(RunnerReported(instance=first, node=n1, attempt=1, status="ready", slots=4))
    seq = await bus.log.decide(ModelDesired(spec=OTHER), 7, seq)
    await bus.log.decide(NodeLost(node=NodeId("n2"), incarnation="one", why="its lease ran out"), 7, seq)
    await bus.send_raw("troupe.evt.seen.thing.x", b'{"type": "FromTheFuture", "x": 1}')
    await bus.view.until(lambda state: state.seq == 10)
    return bus


@pytest.fixture
def look(cluster: Bus, nats_server: Server) -> Look:
    async def run(*arguments: str) -> Ran:
        ran = await actors(*arguments, "--nats", nats_server.url)
        assert (ran.code, ran.err) == (0, "")
        return ran

    return run


@asynccontextmanager
async def saying(bus: Bus, *said: tuple[str, msgspec.Struct | bytes]) -> AsyncIterator[None]:
    """Each payload on its subject, again and again."""

    async def say() -> None:
        while True:
            for subject, payload in said:
                raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
                await bus.send_raw(subject, raw)
            await asyncio.wait([silence], timeout=0.02)

    silence = asyncio.get_running_loop().create_future()
    speaking = asyncio.create_task(say())
    try:
        yield
    finally:
        speaking.cancel()


async def test_status_for_people_and_for_programs(look: Look) -> None:
    told = (await look("status")).out
    assert "leader  hera (term 7)" in told
    assert "nodes   hera  + 1 lost" in told
    assert "http://127.0.0.1:8123" in told
    found = (await look("status", "--json")).json
    assert (found["cluster"], found["seq"], found["leader"]["name"]) == ("troupe", 10, "hera")
    assert [node["alive"] for node in found["nodes"]] == [True, False]


async def test_models_say_how_far_they_are_and_what_they_are(look: Look) -> None:
    rows = {row["id"]: row for row in (await look("models", "--json")).json}
    assert (rows["guide"]["stage"], rows["guide"]["parameters"], rows["guide"]["context"]) == (
        "ready",
        1234567,
        512,
    )
    assert rows["org/other"]["stage"] == "waiting"
    told = (await look("models")).out
    assert "1.2M" in told
    assert "4.8 MiB" in told


async def test_a_preview_shows_plans_and_what_is_refused(look: Look, cluster: Bus) -> None:
    parts = (
        Burden(
            node=NodeId("n1"), layers=(0, 10), memory_bytes=3 * 2**30, free_bytes=4 * 2**30, fetch_bytes=2**30
        ),
        Burden(node=NodeId("n2"), layers=(10, 24), memory_bytes=2**30, free_bytes=2**30),
    )
    plan = Plan(split="pipeline", parts=parts, tokens_s=12.5, full_tokens_s=100.0, ttft_s=0.5)
    refused = RefusedPlan(split="whole", reason="it is too large", nodes=(NodeId("n2"),), missing_bytes=2**20)

    async def master(question: PreviewModel) -> Previews:
        return Previews(model=question.model, plans=(plan,), refused=(refused,))

    async with cluster.serving(cluster.subjects.master, PreviewModel, master):
        told = (await look("preview", "guide")).out
        found = (await look("preview", "guide", "--json")).json
    assert "hera: 0-9, 3.0 GiB of 4.0 GiB, zeus: 10-23, 1.0 GiB of 1.0 GiB" in told
    assert "12.5" in told
    assert "not whole on zeus: it is too large (1.0 MiB are missing)" in told
    assert (found["plans"][0]["tokens_s"], found["refused"][0]["missing_bytes"]) == (12.5, 2**20)


async def test_nodes_show_the_load_that_they_tell(look: Look, cluster: Bus) -> None:
    beat = Beat(node=NodeId("n1"), cpu_percent=42.0, memory_used_bytes=2**30, memory_free_bytes=2**30)

    async with saying(
        cluster, (cluster.subjects.beat(NodeId("n0")), b"garbage"), (cluster.subjects.beat(beat.node), beat)
    ):
        hera, zeus = (await look("nodes", "--json")).json
    assert (hera["name"], hera["beat"]["cpu_percent"], hera["leader"]) == ("hera", 42.0, True)
    assert (zeus["name"], zeus["beat"], zeus["why"]) == ("zeus", None, "its lease ran out")


async def test_nodes_that_say_nothing_are_shown_without_load(look: Look) -> None:
    told = (await look("nodes")).out
    assert "hera *" in told
    assert "lost: its lease ran out" in told
    assert (await look("nodes", "--no-load", "--json")).json[0]["beat"] is None


async def test_instances_are_listed(look: Look) -> None:
    (one,) = (await look("instances", "--json")).json
    assert (one["id"], one["model"], one["status"], one["nodes"], one["slots"]) == (
        "i1",
        "guide",
        "ready",
        ["hera"],
        4,
    )
    assert (one["standing"], one["requests"]) == ("serves", None)
    assert "i1" in (await look("instances", "--no-load")).out


async def test_instances_say_whether_they_stay_and_what_they_have_to_end(look: Look, cluster: Bus) -> None:
    where = cluster.subjects.pulse(NodeId("n1"), InstanceId("i1"))
    pulse = Pulse(
        instance=InstanceId("i1"), attempt=1, steps=2, step_age_s=0, step_cpu_s=0, slowest_step_s=0, running=3
    )
    follower = msgspec.structs.replace(pulse, rank=1, running=0)

    async def standing(seq: int) -> str:
        await cluster.view.until(lambda state: state.seq == seq)
        return instance_rows(cluster.view.state)[0].standing

    seq = await cluster.log.decide(NodeDrained(node=NodeId("n1"), draining=True), 7, 9)
    assert await standing(seq) == "draining"
    changed = msgspec.structs.replace(GUIDE, context=64)
    seq = await cluster.log.decide(ModelDesired(spec=changed), 7, seq)
    assert await standing(seq) == "older"
    why = "the model was changed, and what is wanted now is ready"
    seq = await cluster.log.decide(InstanceRetired(instance=InstanceId("i1"), why=why), 7, seq)
    assert await standing(seq) == "retired"
    async with saying(cluster, (where, b"garbage"), (where, follower), (where, pulse)):
        (one,) = (await look("instances", "--json")).json
        told = (await look("instances")).out
    assert (one["standing"], one["retired"], one["requests"]) == ("retired", why, 3)
    assert "ready, retired" in told and why in told


async def test_events_are_lines_of_json_and_of_text(look: Look) -> None:
    lines = [msgspec.json.decode(line) for line in (await look("events", "--json")).out.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 11))
    assert [line["decided"] for line in lines[:3]] == [False, False, True]
    assert lines[2]["event"] == {"type": "LeaderElected", "node": "n1", "term": 7}
    assert lines[9]["event"] == {"type": "FromTheFuture", "x": 1}
    told = (await look("events")).out.splitlines()
    assert "InstancePlaced   instance=i1 spec=guide" in told[4]


async def test_events_begin_where_they_are_told(look: Look) -> None:
    assert len((await look("events", "--after", "7", "--json")).out.splitlines()) == 3
    assert len((await look("events", "--last", "2", "--json")).out.splitlines()) == 2
    assert (await look("events", "--after", "10")).out == ""


async def test_events_are_followed_until_somebody_stops_it(cluster: Bus, nats_server: Server) -> None:
    async with aclosing(follow(nats_server.url, "--after", "9")) as lines:
        assert (await anext(lines))["seq"] == 10
        await cluster.log.record(joined("n3"))
        assert (await anext(lines))["event"]["node"] == "n3"


async def follow(url: str, *more: str) -> AsyncGenerator[Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors.cli", "events", "--follow", "--json", "--nats", url, *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=HERE,
    )
    assert process.stdout is not None
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), 30):
            yield msgspec.json.decode(line)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert (process.returncode, err) == (130, b"")


async def test_a_wrong_clusters_name_is_answered_with_the_right_one(
    cluster: Bus, nats_server: Server
) -> None:
    ran = await actors("status", "--nats", nats_server.url, "--cluster", "troup")
    assert ran.code == 3
    assert "carries no cluster named 'troup'; did you mean 'troupe'?" in ran.err
    ran = await actors("status", "--nats", nats_server.url, "--cluster", "a b")
    assert (ran.code, "1 to 32 letters" in ran.err) == (2, True)


async def test_looking_makes_no_cluster(nats_server: Server) -> None:
    for _ in range(2):
        ran = await actors("status", "--nats", nats_server.url)
        assert (ran.code, "carries no cluster named 'troupe'" in ran.err) == (3, True)
