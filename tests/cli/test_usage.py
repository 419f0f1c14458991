"""What a command says when it is called wrongly, or when there is nothing to talk to."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import HERE, actors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["staus"], "no such command 'staus'. Did you mean 'status'?"),
        (["status", "--nat", "x"], "--nats"),
        (["load"], "missing argument 'MODEL'"),
        (["load", "guide", "--replicas", "99"], "invalid value for '--replicas'"),
        (["load", "guide", "--decode", "50"], "--decode only goes with --engine simulated"),
        (["load", "guide", "--engine", "simulated", "--prefill", "0"], "--prefill is 0, and is to be > 0.0"),
        (["load", "guide", "--draft-tokens", "3"], "--draft-tokens only goes with --draft"),
        (["load", "guide", "--id", ""], "--id is empty"),
        (["pull", "guide", "--all", "--node", "x"], "give one of them"),
        (["load", "guide", "--engine", "simulatd"], "it is one of mlx, simulated"),
        (["up", "--join", "nats://x"], "join is no address to join"),
        (["up", "--api-port", "70000"], "--api-port is 70000, which cannot be used: expected int <= 65535"),
        (["up", "--no-api", "--no-worker", "--no-master"], "leave nothing to run"),
        (["up", "--model", "none", "--model", "guide"], "--model none goes alone"),
        (["up", "--model", "gide"], "'gide' is no model that this version brings"),
        (["chat", "--once", ""], "there is nothing to ask"),
        (["chat", "--once", "hi", "--api", "host"], "'host' is no address of an API"),
        (["down", "--data-dir", __file__], "test_usage.py is a file"),
        (["--bogus"], "no such option: --bogus"),
    ],
)
async def test_wrong_usage_is_a_sentence_and_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    ran = await actors(*arguments, home=tmp_path)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


async def test_a_wrong_variable_or_file_is_named(tmp_path: Path) -> None:
    ran = await actors("status", home=tmp_path, TROUPE_CLUSTR="x")
    assert (ran.code, "did you mean TROUPE_CLUSTER?" in ran.err) == (2, True)
    (tmp_path / "troupe.toml").write_text("clustr = 'x'\n")
    ran = await actors("up", home=tmp_path)
    assert (ran.code, "troupe.toml is no setting; did you mean cluster?" in ran.err) == (2, True)


async def test_without_a_cluster_the_way_to_one_is_told(tmp_path: Path) -> None:
    ran = await actors("status", "--json", home=tmp_path)
    assert ran.code == 3
    assert "no node runs with the data folder" in ran.err
    assert "`actors up`" in ran.err


async def test_a_bus_that_does_not_answer_is_named(tmp_path: Path) -> None:
    ran = await actors("nodes", "--nats", "nats://127.0.0.1:9", home=tmp_path)
    assert (ran.code, "nats://127.0.0.1:9" in ran.err) == (3, True)


async def test_a_killed_nodes_leftovers_are_recognised(tmp_path: Path) -> None:
    (tmp_path / ".troupe").mkdir()
    left = '{"node_id": "n1", "pid": 4711, "nats_url": "nats://127.0.0.1:9"}'
    (tmp_path / ".troupe" / "node.json").write_text(left)
    ran = await actors("status", home=tmp_path)
    assert ran.code == 3
    assert "(pid 4711) is gone" in ran.err
    assert (await actors("down", home=tmp_path)).out == "No node was running.\n"
    assert not (tmp_path / ".troupe" / "node.json").exists()


def test_a_look_at_the_cluster_imports_no_engine_and_no_server() -> None:
    heavy = {
        "mlx",
        "mlx_lm",
        "transformers",
        "tokenizers",
        "huggingface_hub",
        "litestar",
        "uvicorn",
        "httpx",
        "numpy",
    }
    code = "import sys, actors.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE)
    assert heavy & set(done.stdout.split()) == set()


async def test_tracebacks_come_only_when_asked_for(tmp_path: Path) -> None:
    ran = await actors("status", "--debug", home=tmp_path)
    assert (ran.code, "Traceback" in ran.err) == (3, True)


async def test_help_and_version_are_printed(tmp_path: Path) -> None:
    ran = await actors("--help", home=tmp_path)
    assert ran.code == 0
    names = (
        "up",
        "status",
        "models",
        "load",
        "unload",
        "chat",
        "events",
        "nodes",
        "instances",
        "doctor",
        "down",
    )
    assert all(f" {name} " in ran.out for name in names)
    assert (await actors("--version", home=tmp_path)).code == 0
