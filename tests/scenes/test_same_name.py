"""The hub's `main` has moved, a folder holds other files: `actors pull`, then `actors load`, of the name that stays the same."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from msgspec.structs import replace

from bus.bus import Bus
from schemas.events import InstancePlaced, InstanceRetired
from schemas.model import ModelSpec
from schemas.revision import marked
from schemas.state import State
from tests.cli.command import Ran, actors
from tests.hub import Hub
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_rollover import LONG, MODEL, answer, client_of, crowd, reference, rolled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

HF = ModelSpec(id=MODEL, source="hf:org/llama")


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    older, newer = (make_random_llama(tmp_path / name, seed=at) for at, name in enumerate(("older", "newer")))
    return older, newer


@pytest.fixture
def hub(versions: tuple[Path, Path]) -> Iterator[Hub]:
    with Hub() as running:
        running.add("org/llama", versions[0])
        yield running


async def pulled(node: NodeProcess) -> Ran:
    ran = await actors("pull", MODEL, "--data-dir", str(node.folder))
    assert ran.code == 0, ran.err
    return ran


async def served_anew(
    node: NodeProcess, bus: Bus, client: openai.AsyncOpenAI, spec: ModelSpec, said: str
) -> str:
    """The name is pulled and loaded again, with a crowd that asks: nobody is refused, no answer is of both versions."""
    begun = asyncio.Event()
    long = asyncio.create_task(answer(client, LONG, begun))
    await begun.wait()
    async with crowd(client) as answers:
        ran = await pulled(node)
        assert "in a newer version" in ran.out, ran.out
        said_to_do = ran.out.strip().rpartition(": actors ")[2].split()
        ran = await actors(*said_to_do, "--data-dir", str(node.folder))
        assert ran.code == 0, ran.err
        await bus.view.until(lambda state: served(state).source != spec.source, timeout_s=60)
        await bus.view.until(lambda state: rolled(state, served(state)), timeout_s=120)
    says = await answer(client)
    assert (await long).startswith(said), "what was begun by the older one ends there"
    assert says != said
    assert set(answers) <= {said, says} and said in answers
    retired = [each.event async for each in bus.log.past() if isinstance(each.event, InstanceRetired)]
    assert [each.why for each in retired] == ["the model was changed, and what is wanted now is ready"]
    return says


def served(state: State) -> ModelSpec:
    return state.models[MODEL].spec


async def test_the_main_of_a_hub_moves(
    start_node: StartNode, hub: Hub, versions: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUPE_HUB_URL", hub.url)
    node = await start_node("n", "--model", "none")
    async with watching(node) as bus, client_of(node) as client:
        said = await reference(bus, client, HF)
        before = hub.served.total()
        assert "Its place holds nothing newer" in (await pulled(node)).out
        assert hub.served.total() == before
        hub.add("org/llama", versions[1])
        says = await served_anew(node, bus, client, HF, said)
        assert hub.served.total() - before == (versions[1] / "model.safetensors").stat().st_size
        assert "Its place holds nothing newer" in (await pulled(node)).out
        placed = [each async for each in bus.log.past() if isinstance(each.event, InstancePlaced)]
        ran = await actors("load", "org/llama", "--id", MODEL, "--data-dir", str(node.folder))
        assert ran.code == 0, ran.err
        assert len(placed) == 2 and await answer(client) == says, "the name means what it meant"
        was = next(each.revision for each in bus.view.state.downloads.values() if each.source == HF.source)
        hub.stop()
        for name in (marked("org/llama", was), "org/llama"):
            ran = await actors("load", name, "--id", MODEL, "--data-dir", str(node.folder))
            assert ran.code == 0, ran.err
            await bus.view.until(lambda state: rolled(state, served(state)), timeout_s=120)
            assert await answer(client) == said, "somebody went back, and has pulled nothing since"


async def test_the_files_of_a_folder_change(
    start_node: StartNode, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(versions[0], tmp_path / "model")
    node = await start_node("n", "--model", "none")
    spec = replace(HF, source=str(folder), node=node.node)
    async with watching(node) as bus, client_of(node) as client:
        said = await reference(bus, client, spec)
        assert (await pulled(node)).out.endswith("has not changed.\n")
        fresh = shutil.copy(versions[1] / "model.safetensors", tmp_path / "fresh")
        Path(fresh).replace(folder / "model.safetensors")
        await served_anew(node, bus, client, spec, said)
        assert (await pulled(node)).out.endswith("has not changed.\n")
