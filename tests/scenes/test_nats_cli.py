"""Anybody can look inside with the stock `nats` command line: every decision and fact is readable JSON."""

import asyncio
import json
import os
import pty
import shutil
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
from openai import AsyncOpenAI
from openai.types import CompletionUsage

from actors.machine.node_info import NodeInfo
from bus.commands import command
from schemas.commands import LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.node import Beat
from tests.nodes import NodeProcess, StartNode, watching

TOOL = shutil.which("nats") or str(Path(__file__).parents[2] / ".tools" / "bin" / "nats")


async def nats(info: NodeInfo, *words: str) -> str:
    """What `nats ...` prints; `make test` has installed it."""
    process = await _start(info, *words)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def nats_in_terminal(info: NodeInfo, *words: str) -> str:
    """What a person at a terminal sees: `nats stream view` pages, and refuses to do so anywhere else."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        TOOL, "--server", info.nats_url, *words, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = await asyncio.wait_for(asyncio.to_thread(_read_all, ours), 30)
    assert await process.wait() == 0, shown
    return shown.replace("\r", "")


def _read_all(terminal: int) -> str:
    text = b""
    with suppress(OSError):  # a terminal whose other end is closed
        while block := os.read(terminal, 65_536):
            text += block
    os.close(terminal)
    return text.decode()


async def _start(info: NodeInfo, *words: str) -> Process:
    return await asyncio.create_subprocess_exec(
        TOOL, "--server", info.nats_url, *words, stdout=PIPE, stderr=PIPE, stdin=asyncio.subprocess.DEVNULL
    )


async def _until(process: Process, word: str) -> str:
    """What it prints until `word` comes."""
    text = ""
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while word not in text:
            block = await process.stdout.read(4096)
            assert block, f"ended without {word!r}: {text}"
            text += block.decode()
    return text


@pytest.fixture
async def node(start_node: StartNode) -> NodeProcess:
    node = await start_node("a")
    async with watching(node) as bus:
        await bus.view.until(lambda state: any(i.status == "ready" for i in state.instances.values()), 60)
    return node


async def test_the_log_reads_as_json(node: NodeProcess) -> None:
    shown = await nats_in_terminal(node.info, "stream", "view", "troupe_events", "100", "--raw")
    events = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    kinds = [event["type"] for event in events]
    for kind in ("NodeJoined", "LeaderElected", "ModelDesired", "InstancePlaced", "ModelDescribed"):
        assert kind in kinds
    assert [e["status"] for e in events if e["type"] == "RunnerReported"] == [
        "starting",
        "loading",
        "warming",
        "ready",
    ]
    with_headers = await nats_in_terminal(node.info, "stream", "view", "troupe_events", "100")
    assert "Troupe-Term: " in with_headers
    assert "Subject: troupe.evt.decided.model.guide" in with_headers


async def test_the_state_is_watched_as_it_changes(node: NodeProcess) -> None:
    watch = await _start(node.info, "kv", "watch", "troupe_state")
    assert "model.guide" in await _until(watch, '"status":"ready"')
    async with watching(node) as bus:
        await command(bus, LoadModel(spec=ModelSpec(id=ModelId("org/other.v1"), source="/nowhere")))
    assert '"source":"/nowhere"' in await _until(watch, "model.org=2Fother=2Ev1")
    watch.kill()
    await watch.wait()
    keys = (await nats(node.info, "kv", "ls", "troupe_state")).split()
    assert {"head", "leader.leader", "model.guide", "card.guide", f"node.{node.node}"} <= set(keys)
    leader = json.loads(await nats(node.info, "kv", "get", "troupe_state", "leader.leader", "--raw"))
    assert leader["node"] == node.node


async def test_events_are_heard_as_they_happen(node: NodeProcess) -> None:
    listening = await _start(node.info, "sub", "troupe.evt.>")
    async with watching(node) as bus:
        await bus.until_connected()
        heard = asyncio.create_task(_until(listening, "ModelDesired"))
        while not heard.done():  # `nats sub` does not say when it listens: ask until it has heard
            replicas = bus.view.state.models[ModelId("guide")].spec.replicas % 2 + 1
            spec = ModelSpec(id=ModelId("guide"), source="builtin:guide", replicas=replicas)
            await command(bus, LoadModel(spec=spec))
            await asyncio.wait([heard], timeout=0.3)
        assert "troupe.evt.decided.model.guide" in await heard
    listening.kill()
    await listening.wait()


async def test_leases_and_chunks_are_there_to_be_seen(node: NodeProcess) -> None:
    leases = (await nats(node.info, "kv", "ls", "troupe_leases")).split()
    assert set(leases) == {"leader", f"node.{node.node}"}
    streams = await nats(node.info, "stream", "ls", "-a", "--names")
    assert {"troupe_events", "troupe_tasks", "troupe_out", "KV_troupe_state"} <= set(streams.split())


async def test_what_a_request_cost_reads_as_json(node: NodeProcess) -> None:
    """Real answers: the record, the metrics, and the node's token rate, from the engine to the shelf."""
    usages: list[CompletionUsage] = []

    async def ask(client: AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(
            model="guide",
            messages=[{"role": "user", "content": "How do I add a machine?"}],
            user="ann",
            metadata={"team": "blue"},
        )
        assert answer.usage is not None
        usages.append(answer.usage)

    beats: asyncio.Queue[Beat] = asyncio.Queue()

    def hear(payload: bytes, _subject: str) -> None:
        beats.put_nowait(msgspec.json.decode(payload, type=Beat))

    async with (
        watching(node) as bus,
        AsyncOpenAI(base_url=node.openai_url, api_key="none") as client,
        bus.listening(bus.subjects.beats, hear),
        asyncio.timeout(60),
    ):
        await ask(client)
        while (await beats.get()).tokens_s == 0:
            await ask(client)
    shown = await nats_in_terminal(node.info, "stream", "view", "troupe_audit", "100", "--raw")
    record = next(json.loads(line) for line in shown.splitlines() if line.startswith("{"))
    assert (record["outcome"], record["user"], record["metadata"]) == ("stop", "ann", {"team": "blue"})
    assert record["completion_tokens"] == usages[0].completion_tokens
    assert record["prompt_tokens"] == usages[0].prompt_tokens
    assert 0 < record["prefill_s"] <= record["first_token_s"]
    assert 0 < record["decode_s"] <= record["duration_s"]
    assert record["node"] == node.node and len(record["instances"]) == 1
    async with httpx.AsyncClient(base_url=node.info.api_url) as http:
        metrics = (await http.get("/metrics")).text
    count = sum(usage.completion_tokens for usage in usages)
    assert f'troupe_completion_tokens_total{{model="guide"}} {count}.0' in metrics
    assert f'troupe_batch_size{{instance_id="{record["instances"][0]}"' in metrics
