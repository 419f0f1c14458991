"""Garbage on every subject and in every bucket: refused or left aside, said once, and nobody stops."""

import asyncio
import json
import random
from contextlib import aclosing

import msgspec

from bus.bus import Bus
from bus.commands import command
from bus.lease import node_lease
from bus.streams import Streams
from schemas.commands import Done, LoadModel
from schemas.ids import ApiId, InstanceId, ModelId, RequestId
from schemas.refused import Refused
from tests.chaos.soak import until_the_bucket_is_the_log
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_runner_death import SIM, SIM_SPEC, answered, client_of, load

GARBAGE = (
    b"",
    b"\x00",
    b"\xff\xfe garbage",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'{"type": "LoadModel"}',
    b'{"type": "LoadModel", "spec": {"id": "", "source": 5}}',
    b'{"type": "NoSuchMessage", "node": {"id": "x"}}',
    b'{"type": "NodeLost", "node": 5}',
    b"[" * 100_000,
    b"\x91" * 100_000,
    b"\xc1",
    json.dumps({"type": "NodeJoined", "node": "\ud800"}).encode(),
    random.Random(5).randbytes(10_000),
)


def subjects(bus: Bus, node: NodeProcess, instance: InstanceId) -> list[str]:
    """Every subject that somebody listens to, or that a stream keeps."""
    all_, api = bus.subjects, ApiId("nobody")
    return [
        all_.master,
        all_.node(node.node),
        all_.run(instance),
        all_.out(api, RequestId("r1")),
        all_.cancel(RequestId("r1")),
        all_.beat(node.node),
        all_.pulse(node.node, instance),
        all_.prefixes(instance),
        all_.task(SIM, "normal"),
        all_.task(ModelId("../etc > * passwd"), "high"),
        "troupe.task.x",
        "troupe.cmd.nobody",
        "troupe.evt.seen.node.x",
        "troupe.evt.seen.unknown",
        "troupe.evt.decided.model.sim",
        "troupe.evt.decided.whatever.x",
    ]


async def test_garbage_on_every_subject_stops_nobody(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        instance = await load(bus)
        runners = node.runner_pids()
        assert await answered(client)
        for subject in subjects(bus, node, instance.id):
            for garbage in GARBAGE:
                await bus.send_raw(subject, garbage)
        await bus.connection.client.flush()
        for subject in (bus.subjects.master, bus.subjects.node(node.node)):
            for garbage in GARBAGE:
                assert (await ask_raw(bus, subject, garbage)).code == "bad_request"
        for garbage in GARBAGE:
            assert (
                await ask_raw(bus, bus.subjects.run(instance.id), garbage, packed=True)
            ).code == "bad_request"
        assert await answered(client)
        assert node.runner_pids() == runners
        await load(bus, msgspec.structs.replace(SIM_SPEC, id=ModelId("another")))
    assert node.process.returncode is None
    assert "actor.failed" not in node.journal
    assert node.journal.count("message.garbage") <= 10, "said once for each subject"


async def ask_raw(bus: Bus, subject: str, payload: bytes, packed: bool = False) -> Refused:
    reply = await bus.connection.request(subject, payload, 5.0)
    codec = msgspec.msgpack if packed else msgspec.json
    return codec.decode(reply.data, type=Refused)


STATE_KEYS = ("head", "instance.garbage", "nonsense", "leader.leader", "model.=FF", "model", "card.x.y")


async def test_garbage_in_the_state_is_made_good_from_the_log(start_node: StartNode) -> None:
    """The log is the truth: who joins later comes to the same state, who leads next clears the bucket."""
    quiet = ("--model", "none", "--no-worker", "--no-api")
    first = await start_node("a", *quiet)
    async with watching(first) as bus:
        second = await start_node("b", "--nats", first.info.nats_url, *quiet)
        for key in STATE_KEYS:
            for garbage in GARBAGE[:8]:
                await bus.send_raw(f"$KV.{Streams(bus.cluster).state}.{key}", garbage)
        await bus.connection.client.flush()
        third = await start_node("c", "--nats", first.info.nats_url, *quiet)
        order = LoadModel(spec=msgspec.structs.replace(SIM_SPEC, replicas=0))
        assert isinstance(await command(bus, order), Done)
        await second.kill()
        await bus.view.until(lambda state: not state.nodes[second.node].alive)
        async with asyncio.timeout(10):
            await until_the_bucket_is_the_log(bus)
    for node in (first, third):
        assert node.process.returncode is None
        assert "actor.failed" not in node.journal


async def test_garbage_in_the_leases_is_taken_over(start_node: StartNode) -> None:
    node = await start_node("a", "--model", "none", "--no-worker", "--no-api")
    async with watching(node) as bus:
        before = bus.view.state.leader
        assert before is not None
        for key in ("leader", node_lease(node.node), "nonsense", "node."):
            for garbage in GARBAGE[:8]:
                await bus.send_raw(f"$KV.{Streams(bus.cluster).leases}.{key}", garbage)
        await bus.view.until(lambda state: state.leader and state.leader.term > before.term)
        async with aclosing(bus.leases.holders()) as pictures:
            async for held in pictures:
                if held.keys() == {"leader", node_lease(node.node)}:
                    break
        assert isinstance(await command(bus, LoadModel(spec=SIM_SPEC)), Done)
        assert bus.view.state.nodes[node.node].alive
    assert "actor.failed" not in node.journal
