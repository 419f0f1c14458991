"""A download outlives its process."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from schemas.manifest import MIB
from tests.hub import PIECE, Hub
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"
ROOT = Path(__file__).parents[2]


async def fetch(hub: Hub, folder: Path) -> Process:
    arguments = (hub.url, "hf:org/llama", str(folder))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.downloader.fetching", *arguments, stdout=PIPE, cwd=ROOT
    )


async def until(process: Process, count: int) -> int:
    """Wait until the process has so many bytes on its disk; returns how many exactly."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while int(await process.stdout.readline()) < count:
            pass
    return count


async def test_kill_9_in_the_middle_costs_at_most_one_piece(hub: Hub, tmp_path: Path) -> None:
    llama = make_random_llama(tmp_path / "llama", hidden=192, layers=6)
    hub.add("org/llama", llama)
    size = (llama / WEIGHTS).stat().st_size
    assert size > 8 * MIB
    hold = hub.hold(WEIGHTS, after=size * 2 // 3)
    first = await fetch(hub, tmp_path / "models")
    assert await asyncio.to_thread(hold.reached.wait, 60), "the download never came so far"
    await until(first, size - MIB)  # all but the piece that is held
    first.kill()
    await first.wait()
    hold.go_on.set()

    second = await fetch(hub, tmp_path / "models")
    said, _ = await second.communicate()

    folder = Path(said.decode().splitlines()[-1])
    assert second.returncode == 0
    assert (folder / WEIGHTS).read_bytes() == (llama / WEIGHTS).read_bytes()
    assert hub.served[WEIGHTS] - size <= MIB + PIECE
    assert hub.served["tokenizer.json"] == (llama / "tokenizer.json").stat().st_size, "it was there already"
