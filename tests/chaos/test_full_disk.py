"""A disk that fills up under a node: it says so, stays up, and goes on when there is room again."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import openai
import pytest

from bus.bus import Bus
from bus.commands import command
from bus.errors import BusAway
from schemas.commands import Done, LoadModel
from tests.facts import joined
from tests.nodes import nodes_in, watching
from tests.scenes.test_runner_death import SIM_SPEC, answered, client_of, load
from tests.small_disk import MIB, fill, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 160 * MIB) as folder:
        yield folder


async def recorded_until_full(bus: Bus) -> list[int]:
    """What is still acknowledged."""
    kept: list[int] = []
    with suppress(BusAway):
        while True:
            kept.append(await bus.log.record(joined("full", roles=("api",)), deadline_s=1))
    return kept


async def until_refused(client: openai.AsyncOpenAI) -> None:
    try:
        while True:
            await answered(client)
    except openai.InternalServerError as told:
        assert told.status_code == 503  # noqa: PT017  # any other status is a failure


@pytest.mark.chaos
async def test_a_disk_that_was_full(disk: Path) -> None:
    async with nodes_in(disk) as start_node:
        node = await start_node("a", "--model", "none")
        async with watching(node) as bus, client_of(node) as client:
            await load(bus)
            runners = node.runner_pids()
            kept = [await bus.log.record(joined(f"n{i}", roles=("api",))) for i in range(10)]
            ballast = fill(disk)
            kept += await recorded_until_full(bus)
            assert await answered(client), "tokens need no disk"
            ballast.unlink()
            kept.append(await bus.log.record(joined("after", roles=("api",)), deadline_s=30))
            assert {recorded.seq async for recorded in bus.log.past()}.issuperset(kept)
            assert isinstance(await command(bus, LoadModel(spec=SIM_SPEC), 30), Done)
            assert await answered(client)
            assert node.runner_pids() == runners
        assert node.process.returncode is None


@pytest.mark.chaos
async def test_a_bus_that_dies_while_its_disk_is_full(disk: Path) -> None:
    async with nodes_in(disk) as start_node:
        node = await start_node("a", "--model", "none")
        async with watching(node) as bus, client_of(node) as client:
            await load(bus)
            kept = [await bus.log.record(joined(f"n{i}", roles=("api",))) for i in range(10)]
            ballast = fill(disk)
            node.kill_bus()
            await until_refused(client)
            ballast.unlink()
            await bus.until_connected()
            assert {recorded.seq async for recorded in bus.log.past()}.issuperset(kept)
            assert isinstance(await command(bus, LoadModel(spec=SIM_SPEC), 30), Done)
            assert await answered(client)
        assert node.process.returncode is None
