"""One node, real clients: what a stranger sees first."""

import httpx
import psutil
import pytest
from openai import AsyncOpenAI

from tests.nodes import NodeProcess, StartNode, watching


@pytest.fixture
async def node(start_node: StartNode) -> NodeProcess:
    return await start_node("a")


def client_of(node: NodeProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0)


async def ask(client: AsyncOpenAI, text: str, model: str = "guide") -> str:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], temperature=0
    )
    return (answer.choices[0].message.content or "").strip()


async def test_the_openai_sdk_with_and_without_a_stream(node: NodeProcess) -> None:
    client = client_of(node)
    whole = await ask(client, "Count to 20")
    stream = await client.chat.completions.create(
        model="guide",
        messages=[{"role": "user", "content": "Count to 20"}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed.strip() == whole
    assert "18, 19, 20" in whole
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 20
    assert [model.id async for model in await client.models.list()] == ["guide"]


async def test_the_guide_computes_and_explains(node: NodeProcess) -> None:
    client = client_of(node)
    assert "42" in await ask(client, "What is 17 + 25?")
    assert "actors events" in await ask(client, "How do I see events?")


async def test_health_state_and_schema(node: NodeProcess) -> None:
    async with httpx.AsyncClient(base_url=node.info.api_url) as http:
        assert (await http.get("/health/live")).status_code == 200
        assert (await http.get("/health/ready")).status_code == 200
        state = (await http.get("/cluster/state")).json()
        assert state["leaders"]["leader"]["node"] == node.node
        schema = (await http.get("/schema")).json()
        assert "/v1/chat/completions" in schema["paths"]


async def test_a_node_leaves_nothing_behind(node: NodeProcess) -> None:
    async with watching(node) as outside:
        await outside.view.until(lambda state: any(i.status == "ready" for i in state.instances.values()), 60)
    runners, bus = node.runner_pids(), node.bus_pid()
    assert await node.stop() == 0
    assert runners
    assert not any(_alive(pid) for pid in [*runners, bus])
    assert not (node.folder / "node.json").exists()


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
