"""Models through the whole path: from a hub, from folders good and bad, and served by nodes that do not carry them."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import openai
import psutil
import pytest
from openai import AsyncOpenAI

from schemas.ids import ModelId
from schemas.state import State
from tests.hub import Hub
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching


def client_of(node: NodeProcess) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=0)


async def actors_does(node: NodeProcess, *words: str) -> None:
    code, errors = await actors(node, *words)
    assert code == 0, errors


async def actors(node: NodeProcess, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command, given the node's data folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "actors.cli", *words, "--data-dir", str(node.folder)),
        stdout=PIPE,
        stderr=PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, errors.decode()


async def some_tokens(node: NodeProcess, model: str) -> int:
    answer = await client_of(node).chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=8, seed=1
    )
    assert answer.usage is not None
    return answer.usage.completion_tokens


def maps_mlx(pid: int) -> bool:
    return any("libmlx" in mapped.path for mapped in psutil.Process(pid).memory_maps())


async def test_a_model_from_a_hub_is_served_by_a_node_that_does_not_carry_it(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hub() as hub:
        hub.add("someone/tiny.v1", make_random_llama(tmp_path / "tiny"))
        monkeypatch.setenv("TROUPE_HUB_URL", hub.url)
        worker = await start_node("worker", "--model", "none")
        door = await start_node("door", "--nats", worker.info.nats_url, "--model", "none", "--api-only")
        await actors_does(door, "load", "someone/tiny.v1")
        assert await some_tokens(door, "someone/tiny.v1") > 0
        assert await some_tokens(worker, "someone/tiny.v1") > 0
        assert not maps_mlx(door.process.pid) and not door.runner_pids()
        assert [maps_mlx(pid) for pid in worker.runner_pids()] == [True]
        names = sorted([model.id async for model in await client_of(door).models.list()])
        assert names == ["someone/tiny.v1"]


async def test_a_damaged_folder_fails_with_the_files_name_and_heals_when_it_is_mended(
    start_node: StartNode, tmp_path: Path
) -> None:
    node = await start_node("a", "--model", "none")
    folder = make_random_llama(tmp_path / "tiny")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1000])
    code, words = await actors(node, "load", str(folder))
    assert code == 1
    assert "model.safetensors" in words
    with pytest.raises(openai.APIStatusError) as refused:
        await some_tokens(node, "tiny")
    assert refused.value.status_code == 503
    assert "model.safetensors" in str(refused.value)
    weights.write_bytes(whole)
    await actors_does(node, "load", str(folder))
    assert await some_tokens(node, "tiny") > 0
    assert node.process.returncode is None


async def test_a_missing_file_is_named_and_the_node_lives(start_node: StartNode, tmp_path: Path) -> None:
    node = await start_node("a", "--model", "none")
    folder = make_random_llama(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    code, words = await actors(node, "load", str(folder))
    assert code == 1
    assert "tokenizer.json" in words

    def failed(state: State) -> bool:
        return any(i.status == "failed" and "tokenizer.json" in i.reason for i in state.instances.values())

    async with watching(node) as outside:
        await outside.view.until(failed)
        assert ModelId("tiny") in outside.view.state.models
    await actors_does(node, "unload", "tiny")


async def test_two_models_answer_side_by_side(start_node: StartNode, tmp_path: Path) -> None:
    one, two = make_random_llama(tmp_path / "one", seed=1), make_random_llama(tmp_path / "two", seed=2)
    node = await start_node("a", "--model", str(one), "--model", str(two))
    assert min(await asyncio.gather(some_tokens(node, "one"), some_tokens(node, "two"))) > 0
    with pytest.raises(openai.NotFoundError, match=r"[Dd]id you mean 'one'"):
        await some_tokens(node, "on")


async def test_a_second_model_of_a_known_name_is_refused_aloud_and_the_known_one_stays(
    start_node: StartNode, tmp_path: Path
) -> None:
    known, other = (
        make_random_llama(tmp_path / "a" / "tiny"),
        make_random_llama(tmp_path / "b" / "tiny", seed=2),
    )
    node = await start_node("a", "--model", str(known))
    second = await start_node("b", "--nats", node.info.nats_url, "--model", str(other))
    assert f"the cluster serves another model by this name, from {known}" in second.journal
    assert f"actors load {other} --id NAME" in second.journal
    async with watching(node) as outside:
        assert outside.view.state.models[ModelId("tiny")].spec.source == str(known)
