"""kill -9 at random moments of a start: the next start finds nothing in its way."""

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest

from tests.chaos.cluster import processes_with
from tests.nodes import nodes_in, watching
from tests.scenes.test_runner_death import answered, client_of, load


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_starts_that_are_killed(tmp_path: Path) -> None:
    moments = random.Random(3)
    folder = tmp_path / "a"
    folder.mkdir()
    async with nodes_in(tmp_path) as start_node:
        for round_ in range(12):
            await killed_start(folder, moments.uniform(0.2, 4.0))
            if round_ % 3 == 2:
                for server in processes_with(str(folder / "nats" / "nats.conf")):
                    server.kill()
        node = await start_node("a", "--model", "none")
        async with watching(node) as bus:
            await load(bus)
            assert await answered(client_of(node))
        assert "actor.failed" not in node.journal
        assert len(processes_with(str(folder / "nats" / "nats.conf"))) == 1


async def killed_start(folder: Path, after_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "actors.cli", "up", "--data-dir", str(folder), "--model", "none"),
        *("--api-port", "0", "--nats-port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        stdin=asyncio.subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    await asyncio.sleep(after_s)
    assert process.returncode is None, "it ended by itself"
    process.kill()
    await process.wait()
