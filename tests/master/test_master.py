"""Election and master on a real bus: one leader, fenced decisions, healing, hand-over, the same state after all of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest

from actors.election import Election
from actors.master.master import Master
from bus.bucket import Bucket, Entry
from bus.bus import Bus
from bus.commands import command
from bus.lease import LEADER, Holder
from bus.view import restore
from schemas.commands import Done, ForgetNode, LoadModel, RestartInstance, UnloadModel
from schemas.events import LeaderElected, NodeLeft, RunnerReported
from schemas.ids import ModelId, NodeId
from schemas.instance import Instance
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.state import State
from tests.conftest import ConnectBus
from tests.facts import joined
from tests.replay import replay

GUIDE = ModelSpec(id=ModelId("guide"), source="builtin:guide")


@asynccontextmanager
async def leading(bus: Bus) -> AsyncIterator[asyncio.Task[None]]:
    """An election with a real master on `bus`; leaves cleanly."""
    holder = Holder(node=bus.node, incarnation="one")
    election = Election(bus, holder, lambda lease: Master(bus, lease).run())
    task = asyncio.create_task(election.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def leader(bus: Bus) -> AsyncIterator[Bus]:
    """A bus on whose node a leader has been elected, with one worker node in the state, whose lease is held."""
    await bus.leases.acquire("node.w1", Holder(node=NodeId("w1"), incarnation="one"))
    async with leading(bus):
        await bus.log.record(joined("w1"))
        await bus.view.until(lambda state: state.leader and "w1" in state.nodes)
        yield bus


async def placed(bus: Bus, model: str = "guide") -> Instance:
    state = await bus.view.until(lambda state: state.instances_of(ModelId(model)))
    return state.instances_of(ModelId(model))[0]


async def report(bus: Bus, instance: Instance, status: str, **more: object) -> None:
    fact: dict[str, object] = {
        "instance": instance.id,
        "node": instance.shards[0].node,
        "attempt": instance.attempt,
        "status": status,
        **more,
    }
    await bus.log.record(RunnerReported(**fact))  # type: ignore[arg-type]  # the values are those of the struct


async def test_a_model_that_is_wished_for_is_placed(leader: Bus) -> None:
    answer = await command(leader, LoadModel(spec=GUIDE))
    assert isinstance(answer, Done)
    assert (await placed(leader)).nodes == {"w1"}


async def test_loading_twice_is_loading_once(leader: Bus) -> None:
    first = await command(leader, LoadModel(spec=GUIDE))
    await placed(leader)
    await command(leader, LoadModel(spec=GUIDE))
    decisions = [event async for event in leader.log.past() if event.term]
    assert isinstance(first, Done)
    assert [type(event.event).__name__ for event in decisions] == [
        "LeaderElected",
        "ModelDesired",
        "InstancePlaced",
    ]


async def test_refusals_name_what_is_wrong(leader: Bus) -> None:
    await command(leader, LoadModel(spec=GUIDE))
    assert await command(leader, UnloadModel(model=ModelId("giude"))) == Refused(
        "not_found", "there is no model giude; did you mean 'guide'?"
    )
    answer = await command(leader, LoadModel(spec=ModelSpec(id=ModelId("m"), source="/m", node=NodeId("w2"))))
    assert answer == Refused("not_found", "there is no node w2")
    garbage = await leader.connection.request(leader.subjects.master, b"\xffgarbage", 5)
    assert b"bad_request" in garbage.data


async def test_a_failed_instance_is_retried_and_one_that_cannot_heal_is_not(leader: Bus) -> None:
    await command(leader, LoadModel(spec=GUIDE))
    instance = await placed(leader)
    await report(leader, instance, "failed", reason="killed")
    state = await leader.view.until(lambda state: state.instances[instance.id].attempt == 2)
    assert state.instances[instance.id].status == "placed"
    assert state.instances[instance.id].reason == "it failed: killed"
    await report(
        leader, state.instances[instance.id], "failed", reason="model.safetensors is missing", retryable=False
    )
    state = await leader.view.until(lambda state: state.instances[instance.id].status == "failed")
    await command(leader, RestartInstance(instance=instance.id))
    state = await leader.view.until(lambda state: state.instances[instance.id].attempt == 3)
    assert state.instances[instance.id].failures == 2


async def test_unloading_deletes_the_instances(leader: Bus) -> None:
    await command(leader, LoadModel(spec=GUIDE))
    await placed(leader)
    await command(leader, UnloadModel(model=ModelId("guide")))
    await leader.view.until(lambda state: not state.instances and not state.models)


async def test_what_a_node_carried_is_placed_again_when_it_leaves(leader: Bus) -> None:
    await command(leader, LoadModel(spec=GUIDE))
    instance = await placed(leader)
    await leader.leases.acquire("node.w2", Holder(node=NodeId("w2"), incarnation="one"))
    await leader.log.record(joined("w2"))
    await leader.log.record(NodeLeft(node=NodeId("w1"), incarnation="one"))
    state = await leader.view.until(lambda state: state.instances[instance.id].nodes == {"w2"})
    assert state.instances[instance.id].attempt == 2


async def test_a_node_whose_lease_runs_out_is_lost(connect_bus: ConnectBus) -> None:
    bus = await connect_bus(lease_ttl_s=1.0)
    await bus.leases.acquire("node.w1", Holder(node=NodeId("w1"), incarnation="one"))
    async with leading(bus):
        await bus.log.record(joined("w1"))
        state = await bus.view.until(lambda state: any(not node.alive for node in state.nodes.values()))
        assert state.nodes[NodeId("w1")].lost_why == "its lease ran out"


async def test_replicas_grow_and_shrink(leader: Bus) -> None:
    await command(leader, LoadModel(spec=ModelSpec(id=ModelId("guide"), source="builtin:guide", replicas=3)))
    await leader.view.until(lambda state: len(state.instances) == 3)
    await command(leader, LoadModel(spec=GUIDE))
    await leader.view.until(lambda state: len(state.instances) == 1)


async def test_three_candidates_one_leader_and_a_clean_hand_over(connect_bus: ConnectBus) -> None:
    buses = [await connect_bus(f"n{i}") for i in range(3)]
    async with AsyncExitStack() as stack:
        tasks = {bus.node: await stack.enter_async_context(leading(bus)) for bus in buses}
        state = await buses[0].view.until(lambda state: state.leader)
        assert state.leader
        first = state.leader.node
        survivor = next(bus for bus in buses if bus.node != first)
        tasks[first].cancel()
        await survivor.view.until(lambda state: state.leader and state.leader.node != first, timeout_s=1.0)
        terms = [e.event.term async for e in survivor.log.past() if isinstance(e.event, LeaderElected)]
        assert len(terms) == 2 and terms[0] < terms[1]


async def test_a_leader_whose_lease_was_taken_stops_deciding(bus: Bus, connect_bus: ConnectBus) -> None:
    async with leading(bus):
        await bus.view.until(lambda state: state.leader)
        thief = await connect_bus("n2")
        lease = await thief.leases.acquire("node.n2", Holder(node=NodeId("n2"), incarnation="x"))
        current = await thief.connection.jetstream.get_last_msg(
            "KV_troupe_leases", "$KV.troupe_leases.leader"
        )
        await thief.leases.write(LEADER, Holder(node=NodeId("n2"), incarnation="x"), current.seq or 0)
        answer = await command(thief, LoadModel(spec=GUIDE), deadline_s=3.0)
        assert lease.valid
        assert isinstance(answer, Done | Refused)
    events = [e async for e in thief.log.past() if isinstance(e.event, LeaderElected)]
    assert [e.by for e in events] == ["n1"]


async def test_the_bucket_is_the_fold_of_the_log(leader: Bus) -> None:
    await command(leader, LoadModel(spec=GUIDE))
    instance = await placed(leader)
    for status in ("starting", "loading", "warming", "ready"):
        await report(leader, instance, status, slots=1)
    await command(leader, LoadModel(spec=ModelSpec(id=ModelId("org/other.model"), source="/m", replicas=2)))
    await command(leader, UnloadModel(model=ModelId("guide")))
    await leader.view.until(lambda state: len(state.instances) == 2)
    wanted = replay([event async for event in leader.log.past()])
    assert wanted == leader.view.state

    async def kept() -> State:
        return restore(await Bucket(leader.connection, "troupe_state").entries())

    async with asyncio.timeout(5):
        while await kept() != wanted:
            await leader.view.start()


async def test_a_node_is_forgotten_with_its_keys_and_no_trace_of_them_stays(
    leader: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads meanwhile sees a marker before the new head; later all who join would read it, for ever."""
    refused = await command(leader, ForgetNode(node=NodeId("w1")))
    assert isinstance(refused, Refused) and "alive" in refused.reason
    await leader.log.record(NodeLeft(node=NodeId("w1"), incarnation="one"))
    await leader.view.until(lambda state: not state.nodes[NodeId("w1")].alive)
    assert isinstance(await command(leader, ForgetNode(node=NodeId("w1"))), Done)
    assert NodeId("w1") not in leader.view.state.nodes

    bucket = Bucket(leader.connection, "troupe_state")
    async with asyncio.timeout(10):
        await until_written(leader)
        kept = {entry.key: entry for entry in await bucket.entries()}
        assert kept["node.w1"].value is None and kept["node.w1"].revision < kept["head"].revision
        monkeypatch.setattr("bus.snapshots.MARKER_S", 0.0)
        await leader.log.record(joined("w2"))
        while "node.w1" in {entry.key for entry in await bucket.entries()}:
            await leader.view.start()
    seq = await leader.log.record(joined("w1", "two"))
    await leader.view.until(lambda state: state.seq >= seq)
    async with asyncio.timeout(10):
        await until_written(leader)
    assert NodeId("w1") in restore(await bucket.entries()).nodes


async def test_who_leads_again_knows_what_others_have_written_since(connect_bus: ConnectBus) -> None:
    """Three reigns of two nodes are three elections: nobody is fenced by snapshots of its own past."""
    first, second = await connect_bus("first"), await connect_bus("second")
    for number, bus in enumerate((first, second, first)):
        async with leading(bus):
            model = ModelSpec(id=ModelId(f"m{number}"), source="/m", replicas=0)
            assert isinstance(await command(bus, LoadModel(spec=model)), Done)
            async with asyncio.timeout(10):
                await until_written(bus)
    elected = [each.by async for each in first.log.past() if isinstance(each.event, LeaderElected)]
    assert elected == ["first", "second", "first"]


async def until_written(bus: Bus) -> None:
    """The bucket's head is where the log ends."""
    async with aclosing(Bucket(bus.connection, "troupe_state").watch()) as entries:
        async for entry in entries:
            if (
                isinstance(entry, Entry)
                and entry.key == "head"
                and entry.value == b'{"seq":%d}' % bus.view.state.seq
            ):
                return
