"""Four nodes, each a process with a disk of its own, and one hub that counts every byte that leaves it."""

import asyncio
from pathlib import Path

import openai
import pytest

from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.manifest import MIB
from schemas.model import ModelSpec, Share
from schemas.state import State
from tests.cli.command import actors
from tests.downloader.test_peers import flip
from tests.fleet import MODEL, NAMES, Fleet, fleet, hub, llama
from tests.hub import Hub
from tests.nodes import StartNode, watching

__all__ = ["fleet", "hub", "llama"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def test_each_byte_leaves_the_hub_once_and_a_flipped_bit_is_mended_by_the_fleet(fleet: Fleet) -> None:
    pulled = await fleet.pull("--all")
    assert all(map(fleet.is_same, NAMES))
    assert fleet.hub.served.total() == fleet.size
    came = [(row["bytes_outside"], row["bytes_peers"]) for row in pulled.json["files"]]
    assert [sum(each) for each in zip(*came, strict=True)] == [fleet.size, 3 * fleet.size]
    assert all(outside > 0 for outside, _ in came), "each has brought a part"

    flip(fleet.weights("c"), at=20 * MIB)
    await fleet.pull("--node", "c", "--verify")
    assert fleet.is_same("c")
    assert fleet.hub.served.total() == fleet.size
    assert "download.damaged" in fleet.nodes["c"].journal

    here = ("--data-dir", str(fleet.nodes["a"].folder))
    (row,) = (await actors("models", "--json", *here)).json
    assert [(each["name"], each["status"]) for each in row["files"]] == [(name, "complete") for name in NAMES]
    removed = await actors("rm", MODEL, "--node", "b", "--node", "c", *here)
    assert removed.out == f"{MODEL} is gone from b, c.\n", removed.err
    assert not fleet.weights("b").parent.exists()
    (row,) = (await actors("models", "--json", *here)).json
    assert [each["name"] for each in row["files"]] == ["a", "d"]
    assert (
        await actors("rm", "org/other", *here)
    ).err == "actors: no node that is there has files of org/other\n"


async def test_kill_9_in_the_middle_is_gone_on_from(fleet: Fleet) -> None:
    await fleet.pull("--all", "--no-wait")
    async with watching(fleet.nodes["a"]) as bus:
        await fleet.until_here(bus, "c", fleet.size // 3)
        await fleet.nodes["c"].kill()
        await fleet.start("c")
        await fleet.pull("--all")
    assert all(map(fleet.is_same, NAMES))
    again = fleet.hub.served.total() - fleet.size
    print(f"{again:,} of {fleet.size:,} bytes left the hub twice")
    assert again < fleet.size // 3, (
        "what it had on its way; what it alone had too, when it is back later than others wait"
    )


async def test_a_node_that_never_comes_back_is_replaced(fleet: Fleet) -> None:
    await fleet.pull("--all", "--no-wait")
    async with watching(fleet.nodes["a"]) as bus:
        await fleet.until_here(bus, "c", fleet.size // 3)
        await fleet.nodes["c"].kill()
        await asyncio.gather(*(fleet.until_told(bus, name) for name in "abd"))
    assert all(fleet.is_same(name) for name in "abd")
    assert fleet.hub.served.total() - fleet.size < fleet.size // 3, "what only the lost one had"


async def test_shards_bring_their_layers_and_answer_as_the_whole(
    start_node: StartNode, hub: Hub, llama: Path, nats_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUPE_HUB_URL", hub.url)
    bus_of_all = ("--nats", nats_server.url, "--model", "none")
    nodes = [await start_node("a", *bus_of_all), await start_node("b", *bus_of_all, "--no-api")]
    halves = tuple(Share(node=each.node, layers=(at, at + 8)) for at, each in zip((0, 8), nodes, strict=True))
    split = ModelSpec(id=ModelId("split"), source=f"hf:{MODEL}", strategy="pipeline", split=halves)
    whole = ModelSpec(id=ModelId("whole"), source=str(llama), node=nodes[0].node)
    async with watching(nodes[0]) as bus:
        for spec in (split, whole):
            assert isinstance(await command(bus, LoadModel(spec=spec)), Done)
            await bus.view.until(lambda state, spec=spec: is_ready(state, spec.id), timeout_s=120)
        shards = [bus.view.state.download(each.node, split.id) for each in nodes]
    size = sum(path.stat().st_size for path in llama.iterdir())
    came = [each.bytes_outside + each.bytes_peers for each in shards if each is not None and each.layers]
    assert len(came) == 2, "neither has all"
    assert max(came) < 0.75 * size
    assert hub.served.total() == size, "each byte of it once, though both need what belongs to no layer"
    async with openai.AsyncOpenAI(base_url=nodes[0].openai_url, api_key="none", max_retries=0) as client:
        answers = [await said(client, spec.id) for spec in (split, whole)]
    assert answers[0] == answers[1]
    assert answers[0]


async def said(client: openai.AsyncOpenAI, model: ModelId) -> str | None:
    completion = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me of holes in files"}],
        max_tokens=40,
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    return completion.choices[0].message.content


def is_ready(state: State, model: ModelId) -> bool:
    return any(each.status == "ready" for each in state.instances_of(model))
