"""A bus that dies or freezes under a real node: nothing acknowledged is lost, nobody exits, no stream breaks."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from bus.bus import Bus
from tests.facts import joined
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_runner_death import SIM, TOKENS, answered, begun, client_of, load, rest, whole

TOLD_WITHIN_S = 30.0


@pytest.fixture
async def node(start_node: StartNode) -> NodeProcess:
    return await start_node("a", "--model", "none")


@pytest.fixture
async def outside(node: NodeProcess) -> AsyncIterator[Bus]:
    """A connection of the test's own, after the model was loaded."""
    async with watching(node) as bus:
        await load(bus)
        yield bus


async def test_a_killed_bus_returns_with_all_that_was_acknowledged(node: NodeProcess, outside: Bus) -> None:
    client, runners = client_of(node), node.runner_pids()
    undisturbed = await whole(client, TOKENS)
    for round_ in range(2):
        stream, words = await begun(client)
        acknowledged = [await outside.log.record(joined(f"n{round_}-{i}", roles=("api",))) for i in range(20)]
        before = outside.view.state.instances
        killed = node.bus_pid()
        os.kill(killed, signal.SIGKILL)
        assert await outside.log.record(joined(f"after-{round_}", roles=("api",))) > acknowledged[-1]
        assert node.bus_pid() != killed
        kept = {recorded.seq async for recorded in outside.log.past()}
        assert kept.issuperset(acknowledged)
        async with asyncio.timeout(TOLD_WITHIN_S):
            assert words + await rest(stream) == undisturbed
        assert outside.view.state.instances == before, "no runner was disturbed"
    assert node.process.returncode is None
    assert node.runner_pids() == runners
    assert "actor.failed" not in node.journal


async def test_a_frozen_bus_is_a_503_for_as_long_as_it_is_frozen(node: NodeProcess, outside: Bus) -> None:
    runners, elected = node.runner_pids(), outside.view.state.seq
    os.kill(node.bus_pid(), signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=node.info.api_url, timeout=TOLD_WITHIN_S) as http:
            began = time.monotonic()
            told = await asyncio.gather(
                *(http.post("/v1/chat/completions", json=chat(stream)) for stream in (False, True)),
            )
            for response in told:
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"]["message"]
            assert time.monotonic() - began < TOLD_WITHIN_S
            assert (await http.get("/health/live")).status_code == 200
    finally:
        os.kill(node.bus_pid(), signal.SIGCONT)
    await outside.view.until(lambda state: state.leader and state.leader.seq > elected, timeout_s=30)
    assert await answered(client_of(node))
    assert node.process.returncode is None
    assert node.runner_pids() == runners, "a frozen bus is no reason to end a runner"
    assert "actor.failed" not in node.journal


def chat(stream: bool) -> dict[str, object]:
    return {
        "model": SIM,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 5,
        "stream": stream,
    }
