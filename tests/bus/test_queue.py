"""The work queue on a real nats-server: lanes, priorities, tasks that return, tasks that expire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from bus.address import asking
from bus.bus import Bus
from bus.errors import QueueFull, TooLarge
from bus.queue import Pulls
from bus.server import Server
from bus.subjects import token
from schemas.ids import ApiId, InstanceId, ModelId, NodeId, RequestId
from schemas.task import Lane, Sampling, Task
from tests.conftest import ConnectBus
from tests.foreign import two_sites
from tests.relay import Relay, relaying

MODEL = ModelId("org/model.v1")


def task(name: str, lane: Lane = "normal") -> Task:
    return Task(
        request=RequestId(name),
        attempt=1,
        api=ApiId("a"),
        model=MODEL,
        prompt=b"\1\0\0\0",
        max_tokens=1,
        sampling=Sampling(),
        lane=lane,
    )


async def taken(pulls: Pulls, within_s: float = 10) -> str:
    async with asyncio.timeout(within_s):
        pulled = await pulls.next()
    await pulled.take()
    return pulled.task.request


async def wait_at_the_server(bus: Bus, pulls: int) -> None:
    """Until so many workers wait for a task of the normal lane."""
    async with asyncio.timeout(30):
        while True:
            consumer = f"{token(MODEL)}_normal"
            info = await bus.connection.jetstream.consumer_info("troupe_tasks", consumer)
            if info.num_waiting == pulls:
                return


async def test_a_task_goes_to_one_worker_once(bus: Bus, connect_bus: ConnectBus) -> None:
    other = await connect_bus("n2")
    async with bus.queue.pulls(MODEL) as here, other.queue.pulls(MODEL) as there:
        for i in range(20):
            await bus.queue.put(task(f"r{i}"), 60)
        got = [await taken(pulls) for _ in range(10) for pulls in (here, there)]
    assert sorted(got) == sorted(f"r{i}" for i in range(20))


async def test_a_waiting_worker_is_told_at_once_and_the_best_priority_first(
    bus: Bus, connect_bus: ConnectBus
) -> None:
    other = await connect_bus("n2")
    async with bus.queue.pulls(MODEL, priority=5) as slow, other.queue.pulls(MODEL, priority=0) as fast:
        first, second = asyncio.create_task(taken(slow)), asyncio.create_task(taken(fast))
        await wait_at_the_server(bus, pulls=2)
        await bus.queue.put(task("a"), 60)
        assert await second == "a"
        await bus.queue.put(task("b"), 60)
        assert await first == "b"


async def test_more_urgent_lanes_go_first_and_the_others_have_their_turn(bus: Bus) -> None:
    """The lanes are filled from behind, and twice, so that the order is not that of arrival."""
    for lane in ("batch", "normal", "high", "batch"):
        for i in range(6):
            await bus.queue.put(msgspec.structs.replace(task(f"{lane}{i}", lane), attempt=i), 60)
    async with bus.queue.pulls(MODEL) as pulls:
        got = [(await taken(pulls)).rstrip("0123456789") for _ in range(18)]
    assert got == ["high"] * 6 + ["normal"] * 2 + ["batch"] + ["normal"] * 4 + ["batch"] * 5


async def test_whether_a_task_still_waits(bus: Bus) -> None:
    ticket = await bus.queue.put(task("a"), 60)
    assert await bus.queue.holds(ticket)
    async with bus.queue.pulls(MODEL) as pulls:
        pulled = await pulls.next()
        assert await bus.queue.holds(ticket), "it was handed out, and not taken yet"
        await pulled.take()
    async with asyncio.timeout(5):
        while await bus.queue.holds(ticket):
            pass


async def test_a_task_that_is_given_back_returns_at_once(bus: Bus) -> None:
    async with bus.queue.pulls(MODEL) as pulls:
        await bus.queue.put(task("a"), 60)
        await (await pulls.next()).give_back()
        assert await taken(pulls) == "a"


async def test_a_removed_task_is_not_handed_out(bus: Bus) -> None:
    ticket = await bus.queue.put(task("a"), 60)
    await bus.queue.put(task("b"), 60)
    assert await bus.queue.remove(ticket)
    assert not await bus.queue.remove(ticket)
    async with bus.queue.pulls(MODEL) as pulls:
        assert await taken(pulls) == "b"


async def test_a_model_may_have_a_long_name(bus: Bus) -> None:
    """As a token each of these characters is nine."""
    long = ModelId("模" * 200)
    await bus.queue.put(msgspec.structs.replace(task("a"), model=long), 60)
    async with bus.queue.pulls(long) as pulls:
        assert await taken(pulls) == "a"


async def test_the_same_attempt_waits_only_once(bus: Bus) -> None:
    tickets = [await bus.queue.put(task("a"), 60) for _ in range(2)]
    assert tickets[0] == tickets[1]


@asynccontextmanager
async def slow_worker(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Relay, Pulls]]:
    """It says that it leaves, and the server hears that when the relay is released; what it does not return, nobody gets."""
    monkeypatch.setattr("bus.queue.ACK_WAIT_S", 600.0)
    monkeypatch.setattr("bus.connection.HEAR_OUT_S", 60.0)
    async with relaying(int(url.rpartition(":")[2])) as relay:
        far = await Bus.connect(relay.url, "troupe", "far", NodeId("far"))
        async with far.queue.pulls(MODEL) as pulls:
            yield relay, pulls
        await far.close()


async def on_its_way(bus: Bus, lane: Lane) -> None:
    await bus.queue.put(task(lane, lane), 60)
    async with asyncio.timeout(30):
        while True:
            info = await bus.connection.jetstream.consumer_info("troupe_tasks", f"{token(MODEL)}_{lane}")
            if info.num_ack_pending == 1:
                return


async def test_a_task_on_its_way_to_a_worker_that_leaves_goes_to_another_one_at_once(
    bus: Bus, nats_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slow_worker(nats_server.url, monkeypatch) as (relay, pulls):
        pulling = asyncio.create_task(pulls.next())
        await wait_at_the_server(bus, pulls=1)
        relay.set_trap(b"UNSUB")
        pulling.cancel()
        await relay.sprung.wait()
        await on_its_way(bus, "normal")
        relay.release()
    async with bus.queue.pulls(MODEL) as others:
        assert await taken(others, within_s=60) == "normal"


async def test_of_two_that_come_at_once_the_second_one_does_not_wait(
    bus: Bus, nats_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker without work asks for all lanes, and takes one task."""
    async with slow_worker(nats_server.url, monkeypatch) as (relay, pulls):
        first = asyncio.create_task(taken(pulls, within_s=60))
        await wait_at_the_server(bus, pulls=1)
        relay.set_trap(b"UNSUB")
        await bus.queue.put(task("normal"), 60)
        assert await first == "normal"
        await on_its_way(bus, "batch")
        relay.release()
        assert await taken(pulls, within_s=60) == "batch"


async def test_a_pull_that_was_lost_between_two_sites_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leaf's clients are told of no loss: the server at the hub forgets their pulls, which say no more that they live."""
    monkeypatch.setattr("bus.queue.PULL_S", 600.0)
    async with AsyncExitStack() as stack:
        hub, leaf, link = await stack.enter_async_context(two_sites(tmp_path))
        near, far = [
            await Bus.connect(asking(site.url, domain="hub"), "troupe", name, NodeId(name))
            for site, name in ((hub, "near"), (leaf, "far"))
        ]
        for each in (near, far):
            stack.push_async_callback(each.close)
        pulls = await stack.enter_async_context(far.queue.pulls(MODEL))
        pulling = asyncio.create_task(taken(pulls, within_s=60))
        await wait_at_the_server(near, pulls=1)
        link.cut()
        await wait_at_the_server(near, pulls=0)
        link.mend()
        await wait_at_the_server(near, pulls=1)
        await near.queue.put(task("a"), 60)
        assert await pulling == "a"


async def test_garbage_in_the_queue_is_dropped(bus: Bus) -> None:
    await bus.send_raw(bus.subjects.task(MODEL, "normal"), b"\xff garbage")
    await bus.queue.put(task("a"), 60)
    async with bus.queue.pulls(MODEL) as pulls:
        assert await taken(pulls) == "a"


async def test_a_full_queue_says_so(connect_bus: ConnectBus, nats_server: object) -> None:
    bus = await connect_bus("n1", cluster="small")
    configuration = (await bus.connection.jetstream.stream_info("small_tasks")).config
    configuration.max_msgs = 2
    await bus.connection.jetstream.update_stream(configuration)
    for name in "ab":
        await bus.queue.put(task(name), 60)
    with pytest.raises(QueueFull):
        await bus.queue.put(task("c"), 60)


async def test_a_task_too_large_for_a_message_is_refused_with_its_size(bus: Bus) -> None:
    big = msgspec.structs.replace(task("big"), prompt=b"\0" * (bus.connection.client.max_payload + 1))
    for sending in (bus.queue.put(big, 60), bus.offer(InstanceId("i"), big)):
        with pytest.raises(TooLarge, match="bytes is too large for troupe"):
            await sending
    with pytest.raises(TooLarge):
        bus.post("troupe.any", big.prompt)
