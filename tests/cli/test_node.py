"""The commands against a real node: started, looked at, given a model, talked to, stopped, killed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from actors.machine.data_folder import holder
from actors.machine.node_info import NodeInfo, read_node_info
from tests.cli.command import HERE, actors, environment

ANY_PORTS = ("--api-port", "0", "--nats-port", "0")


class Up:
    """A running `actors up`."""

    def __init__(self, process: asyncio.subprocess.Process, info: NodeInfo) -> None:
        self.process = process
        self.info = info


@asynccontextmanager
async def node(data_dir: Path, *more: str) -> AsyncIterator[Up]:
    """`actors up --json`, from the line that says that it is ready on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors.cli", "up", "--json", "--data-dir", str(data_dir), *ANY_PORTS, *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(data_dir),
        cwd=HERE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        yield Up(process, msgspec.json.decode(line, type=NodeInfo))
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 30)


async def test_a_day_of_a_node(tmp_path: Path) -> None:
    here = ("--data-dir", str(tmp_path))
    async with node(tmp_path, "--name", "hera", "--model", "none") as up:
        assert read_node_info(tmp_path / "node.json") == up.info
        found = (await actors("status", "--json", *here)).json
        assert (found["leader"]["name"], found["models"]) == ("hera", [])

        speed = ("--engine", "simulated", "--decode", "500")
        loaded = await actors("load", "guide", "--id", "sim", *speed, *here)
        assert (loaded.code, loaded.out) == (0, "sim is ready. Talk to it: actors chat sim\n")
        (listed,) = (await actors("models", "--json", *here)).json
        assert (listed["id"], listed["stage"], listed["engine"]) == ("sim", "ready", "simulated")

        said = await actors("chat", "sim", "--once", "hello", "--max-tokens", "5", "--json", *here)
        assert (said.code, said.json["usage"]["completion_tokens"]) == (0, 5)
        seen = await actors("nodes", "--json", *here)
        assert seen.json[0]["beat"]["node"] == up.info.node_id

        second = await actors("up", *here, *ANY_PORTS)
        assert (second.code, f"pid {up.process.pid}" in second.err) == (1, True)

        assert (await actors("unload", "sim", *here)).code == 0
        stopped = await actors("down", *here)
        assert (stopped.code, stopped.out) == (0, f"Stopped the node of {tmp_path}.\n")
        assert await asyncio.wait_for(up.process.wait(), 10) == 0
    assert holder(tmp_path) is None
    assert not (tmp_path / "node.json").exists()


async def test_a_port_that_is_taken_and_a_wrong_model_end_the_start_with_a_sentence(tmp_path: Path) -> None:
    port = ("--api-port", "0", "--nats-port")
    with_taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = str(with_taken.sockets[0].getsockname()[1])
    ran = await actors("up", "--data-dir", str(tmp_path / "a"), *port, taken)
    assert (ran.code, f"port {taken} " in ran.err, "Traceback" in ran.err) == (1, True, False)
    ran = await actors("up", "--data-dir", str(tmp_path / "b"), "--nats-port", "0", "--api-port", taken)
    with_taken.close()
    assert (ran.code, f"port {taken} " in ran.err, "Traceback" in ran.err) == (1, True, False)
    assert "this is a bug" not in ran.err
    ran = await actors("up", "--data-dir", str(tmp_path / "c"), *ANY_PORTS, "--model", "giude")
    assert (ran.code, "did you mean 'guide'?" in ran.err) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_a_node_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    async with node(tmp_path, "--model", "none") as up:
        children = psutil.Process(up.process.pid).children(recursive=True)
        up.process.send_signal(number)
        assert await asyncio.wait_for(up.process.wait(), 20) == 0
    assert not [child for child in children if child.is_running()]
    assert not (tmp_path / "node.json").exists()


async def test_a_killed_node_is_recognised_and_comes_back(tmp_path: Path) -> None:
    here = ("--data-dir", str(tmp_path))
    async with node(tmp_path, "--model", "none") as up:
        up.process.kill()
        await up.process.wait()
    assert (tmp_path / "node.json").exists()
    assert "which a killed node had left" in (await actors("down", *here)).out
    assert (await actors("down", *here)).out == "No node was running.\n"
    async with node(tmp_path, "--model", "none") as again:
        assert again.info.node_id == up.info.node_id
        assert (await actors("status", *here)).code == 0
