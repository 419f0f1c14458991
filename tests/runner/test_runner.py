"""The runner's process over a real bus."""

import asyncio
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bus.bus import Bus
from bus.server import Server
from schemas.chunks import Ended, Failed, SequenceEnded, Started, Tokens
from schemas.ids import RequestId
from schemas.node import Pulse
from schemas.refused import Refused
from schemas.task import Accepted, TasksFound, pack_ids
from tests.engine.running import PROMPT, STARTED, a_task, reasons, tokens
from tests.runner.client import INSTANCE, Client
from tests.runner.conftest import StartRunner

ACCEPTED = Accepted(instance=INSTANCE, node="n1", attempt=3)  # type: ignore[arg-type]  # an id is a str


async def test_it_reports_each_stage_and_answers_an_offer(start_runner: StartRunner, client: Client) -> None:
    await start_runner()
    reports = await client.until_status("ready")
    assert [report.status for report in reports] == ["starting", "loading", "warming", "ready"]
    assert {(report.instance, report.node, report.attempt) for report in reports} == {("i1", "n1", 3)}
    assert reports[-1].slots == 18

    assert await client.offer(a_task(max_tokens=20)) == ACCEPTED
    chunks = await client.until_ended("r1")
    assert chunks[0] == STARTED
    assert len(tokens(chunks)) == 20
    assert isinstance(chunks[-2], SequenceEnded) and isinstance(chunks[-1], Ended)


async def test_the_same_attempt_again_is_accepted_and_not_run_twice(
    start_runner: StartRunner, client: Client
) -> None:
    await start_runner(engine="simulated")
    await client.until_status("ready")
    assert await client.offer(a_task()) == ACCEPTED
    assert await client.offer(a_task()) == ACCEPTED
    await client.until_ended("r1")
    assert await client.offer(a_task()) == ACCEPTED
    assert await client.offer(a_task(request="r2")) == ACCEPTED
    await client.until_ended("r2")
    assert len(tokens(client.chunks["r1"])) == 10
    assert sum(isinstance(chunk, Started) for chunk in client.chunks["r1"]) == 1


async def test_who_is_told_to_leave_says_so_to_the_owners(start_runner: StartRunner, client: Client) -> None:
    runner = await start_runner(engine="simulated", decode=50)
    await client.until_status("ready")
    for request in ("r1", "r2"):
        await client.offer(a_task(request=request, max_tokens=1500))
        await client.until_chunks(request, 2)
    runner.process.send_signal(signal.SIGTERM)
    for request in ("r1", "r2"):
        last = (await client.until_ended(request))[-1]
        assert isinstance(last, Failed) and last.code == "runner_lost"
    assert (await runner.ended())[0] == 0


async def test_a_later_attempt_takes_the_place_of_an_earlier_one(
    start_runner: StartRunner, client: Client
) -> None:
    await start_runner(engine="simulated", slots=1, decode=100)
    await client.until_status("ready")
    await client.offer(a_task(max_tokens=1500))
    begun = len(await client.until_chunks("r1", 5))
    attempts = [(RequestId("r1"), number) for number in (1, 2, 3)]
    assert await client.bus.find_tasks(INSTANCE, attempts) == TasksFound(attempts=(attempts[0],))
    assert await client.offer(a_task(attempt=2, max_tokens=5)) == ACCEPTED
    chunks = (await client.until_ended("r1"))[begun:]
    ended = chunks[-1]
    assert isinstance(ended, Ended) and ended.attempt == 2
    assert await client.bus.find_tasks(INSTANCE, attempts) == TasksFound()
    late = [chunk for chunk in chunks if chunk.attempt == 1]
    assert all(isinstance(chunk, Tokens) for chunk in late)


async def test_without_room_offers_are_refused_and_the_queue_waits(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated", slots=1, decode=100)
    await client.until_status("ready")
    await client.offer(a_task(max_tokens=1000))
    refused = await client.offer(a_task(request="r2"))
    assert isinstance(refused, Refused) and refused.code == "busy" and "1 slots" in refused.reason
    await bus.queue.put(a_task(request="r3"), ttl_s=60)
    await client.until_chunks("r1", 10)
    assert client.chunks["r3"] == []
    await client.cancel(a_task())
    assert reasons(await client.until_ended("r1")) == ["cancelled"]
    assert len(tokens(await client.until_ended("r3"), "r3")) == 10


async def test_a_slot_is_kept_for_the_high_lane(start_runner: StartRunner, client: Client) -> None:
    await start_runner(engine="simulated", slots=9, decode=100)
    await client.until_status("ready")
    assert await client.offer(a_task(request="many", n=8, max_tokens=1000)) == ACCEPTED
    for lane in ("batch", "normal"):
        refused = await client.offer(a_task(request=lane, lane=lane))
        assert isinstance(refused, Refused) and "8 of 9 slots" in refused.reason
    assert await client.offer(a_task(request="first", lane="high", max_tokens=1000)) == ACCEPTED
    refused = await client.offer(a_task(request="second", lane="high"))
    assert isinstance(refused, Refused) and "9 of 9 slots" in refused.reason


async def test_the_kept_slot_pulls_the_high_lane_alone(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated", slots=9, decode=100)
    await client.until_status("ready")
    assert await client.offer(a_task(request="many", n=8, max_tokens=1000)) == ACCEPTED
    waiting = await bus.queue.put(a_task(request="normal"), ttl_s=60)
    for request in ("first", "second"):
        await bus.queue.put(a_task(request=request, lane="high"), ttl_s=60)
        assert len(tokens(await client.until_ended(request), request)) == 10
    assert await bus.queue.holds(waiting) and client.chunks["normal"] == []
    await client.cancel(a_task(request="many"))
    await client.until_ended("normal")


async def test_who_takes_a_task_out_of_the_queue_says_so_before_its_engine_does(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated", slots=1, decode=1000)
    await client.until_status("ready")
    assert await client.offer(a_task(request="r1", max_tokens=2000)) == ACCEPTED
    assert await client.offer(a_task(request="offered")) != ACCEPTED
    await bus.queue.put(a_task(request="pulled"), ttl_s=60)
    chunks = await client.until_ended("pulled")
    told = [chunk for chunk in chunks[:2] if isinstance(chunk, Started)]
    assert len(told) == 2 and told[0] == msgspec.structs.replace(told[1], cached_tokens=0)


async def test_what_needs_more_slots_than_are_free_stays_in_the_queue(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated", slots=4, decode=100)
    await client.until_status("ready")
    for request in ("r1", "r2"):
        assert await client.offer(a_task(request=request, max_tokens=1500)) == ACCEPTED
    wide = await bus.queue.put(a_task(request="wide", n=3), ttl_s=60)
    await client.until_chunks("r1", 30)
    assert await bus.queue.holds(wide), "others may have room for it"
    await client.cancel(a_task(request="r1"))
    assert len(reasons(await client.until_ended("wide"))) == 3


async def test_sequences_count_and_each_may_be_cancelled(start_runner: StartRunner, client: Client) -> None:
    await start_runner(engine="simulated", slots=4, decode=100)
    await client.until_status("ready")
    three = a_task(max_tokens=1000, n=3)
    assert await client.offer(three) == ACCEPTED
    refused = await client.offer(a_task(request="r2", n=2))
    assert isinstance(refused, Refused) and refused.code == "busy" and "3 of 4 slots" in refused.reason
    await client.until_chunks("r1", 10)
    await client.cancel(three, index=1)
    while reasons(client.chunks["r1"]) != ["cancelled"]:
        await client.until_chunks("r1", len(client.chunks["r1"]) + 1)
    assert not any(isinstance(chunk, Ended) for chunk in client.chunks["r1"])
    await client.cancel(three)
    assert reasons(await client.until_ended("r1")) == ["cancelled"] * 3
    assert await client.offer(a_task(request="r2", n=2)) == ACCEPTED


async def test_its_pulse_tells_what_it_has_in_hand(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    pulses: asyncio.Queue[Pulse] = asyncio.Queue()

    async def until(fits: Callable[[Pulse], bool]) -> None:
        async with asyncio.timeout(30):
            while not fits(await pulses.get()):
                pass

    def hear(payload: bytes, _: str) -> None:
        pulses.put_nowait(msgspec.json.decode(payload, type=Pulse))

    async with bus.listening(bus.subjects.pulse("n1", "i1"), hear):  # type: ignore[arg-type]
        await start_runner()
        await client.until_status("ready")
        long = a_task(max_tokens=2000, n=3)
        await client.offer(long)
        await until(lambda pulse: pulse.running == 1 and pulse.rows == 3 and pulse.batch_bytes > 0)
        await client.cancel(long)
        await until(lambda pulse: pulse.running == 0 and pulse.rows == 0 and pulse.batch_bytes == 0)


async def test_a_cancelled_request_ends_with_its_usage(start_runner: StartRunner, client: Client) -> None:
    await start_runner()
    await client.until_status("ready")
    await client.offer(a_task(max_tokens=2000))
    await client.until_chunks("r1", 4)
    await client.cancel(a_task())
    chunks = await client.until_ended("r1")
    ended = chunks[-1]
    assert isinstance(ended, Ended) and reasons(chunks) == ["cancelled"]
    assert ended.usage.completion_tokens == len(tokens(chunks)) < 2000


async def test_a_prompt_in_the_object_store_is_fetched(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated")
    await client.until_status("ready")
    await bus.payloads.put("prompt-of-r1", pack_ids(PROMPT))
    await client.offer(a_task(prompt=[], payload="prompt-of-r1"))
    await client.offer(a_task(request="r2"))
    await client.offer(a_task(request="r3", prompt=[], payload="nothing"))
    assert tokens(await client.until_ended("r1")) == tokens(await client.until_ended("r2"), "r2")
    failed = (await client.until_ended("r3"))[-1]
    assert isinstance(failed, Failed) and failed.code == "unavailable" and "nothing" in failed.reason


async def test_bad_tasks_and_garbage_end_nothing(start_runner: StartRunner, client: Client, bus: Bus) -> None:
    await start_runner()
    await client.until_status("ready")
    await bus.send_raw("troupe.ctl.r1", b"\xff{")
    refused = await bus.connection.request(bus.subjects.run(INSTANCE), b"\x00", 2.0)
    assert msgspec.msgpack.decode(refused.data, type=Refused).code == "bad_request"
    elsewhere = await client.offer(a_task(model="other"))
    assert isinstance(elsewhere, Refused) and elsewhere.code == "not_found"
    for request, values in {"bad": {"prompt": []}, "late": {"deadline": time.time() - 1}}.items():
        assert await client.offer(a_task(request=request, **values)) == ACCEPTED
        failed = (await client.until_ended(request))[-1]
        assert isinstance(failed, Failed)
        assert failed.code == ("bad_request" if request == "bad" else "deadline")
    await client.offer(a_task())
    assert len(tokens(await client.until_ended("r1"))) == 10


async def test_it_sends_pulses(start_runner: StartRunner, client: Client, bus: Bus) -> None:
    pulses: asyncio.Queue[Pulse] = asyncio.Queue()

    def hear(payload: bytes, _: str) -> None:
        pulses.put_nowait(msgspec.json.decode(payload, type=Pulse))

    async with bus.listening("troupe.beat.n1.i1", hear), asyncio.timeout(20):
        await start_runner(engine="simulated", decode=200)
        await client.until_status("ready")
        while (pulse := await pulses.get()).steps != 1:  # a first step is given no more time than others
            assert pulse.steps == 0, "loading is the first step"
        await client.offer(a_task(max_tokens=1500))
        while pulse.tokens_s < 20:
            pulse = await pulses.get()
        assert (pulse.instance, pulse.attempt, pulse.running) == ("i1", 3, 1)
        assert pulse.steps > 0 and 0 < pulse.slowest_step_s < 10


@pytest.mark.parametrize("way", ["sigterm", "stdin"])
@pytest.mark.parametrize("busy", [False, True])
async def test_it_leaves_at_once(start_runner: StartRunner, client: Client, way: str, busy: bool) -> None:
    runner = await start_runner()
    await client.until_status("ready")
    if busy:
        await client.offer(a_task(max_tokens=2000))
        await client.until_chunks("r1", 3)
    if way == "stdin":
        runner.close_stdin()
    else:
        runner.process.send_signal(signal.SIGTERM)
    code, words, _ = await runner.ended()
    assert (code, words) == (0, [])


async def test_it_leaves_while_it_starts(start_runner: StartRunner) -> None:
    runner = await start_runner()
    runner.close_stdin()
    assert (await runner.ended())[0] == 0


async def test_a_model_that_cannot_be_loaded_is_its_last_words(
    start_runner: StartRunner, llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    code, (words,), stderr = await (await start_runner(path=folder)).ended()
    assert code == 1 and not words.retryable
    assert "model.safetensors" in words.failed and str(folder) in words.failed
    assert stderr.splitlines()[-1] == words.failed


async def test_a_job_that_is_none_is_its_last_words(start_runner: StartRunner) -> None:
    import sys

    from tests.runner.process import ROOT, RunningProcess

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors.runner", stdin=-1, stdout=-1, stderr=-1, cwd=ROOT
    )
    runner = RunningProcess(process)
    runner.say(b"{}\n")
    code, (words,), _ = await runner.ended()
    assert code == 1 and "nats_url" in words.failed


async def test_it_decodes_on_while_the_bus_is_away(
    start_runner: StartRunner, client: Client, nats_server: Server
) -> None:
    await start_runner(engine="simulated", decode=50)
    await client.until_status("ready")
    await client.offer(a_task(max_tokens=150))
    await client.until_chunks("r1", 5)
    await nats_server.stop()
    await nats_server.start()
    chunks = await client.until_ended("r1")
    ended = chunks[-1]
    assert isinstance(ended, Ended) and ended.usage.completion_tokens == 150
    assert await client.offer(a_task(request="r2")) == ACCEPTED
    assert len(tokens(await client.until_ended("r2"), "r2")) == 10
