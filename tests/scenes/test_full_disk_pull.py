"""A disk that fills up while a model comes, with the bus's store on it: what was wrong is said, and nothing else ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from schemas.manifest import MIB
from tests.chaos.test_full_disk import recorded_until_full
from tests.fleet import MODEL, Fleet, hub, llama
from tests.hub import Hub
from tests.nodes import nodes_in, watching
from tests.scenes.test_runner_death import answered, client_of, load
from tests.small_disk import fill, free, small_disk

__all__ = ["hub", "llama"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 256 * MIB) as folder:
        yield folder


@pytest.mark.parametrize("left", [8 * MIB, 0], ids=["little left", "nothing left"])
async def test_a_disk_that_fills_up_in_the_midst_of_a_pull(
    disk: Path, hub: Hub, llama: Path, left: int
) -> None:
    async with nodes_in(disk) as start_node:
        fleet = Fleet(start_node, hub, disk, llama, bytes_s=3 * MIB)
        node = await fleet.start("a", "--log-level", "info")
        async with watching(node) as bus, client_of(node) as client:
            await load(bus)
            await fleet.pull("--no-wait")
            await fleet.until_here(bus, "a", fleet.size // 3)
            ballast = fill(disk, leave=left)
            if left:
                told = await fleet.until_told(bus, "a", "failed")
                check_told(told.reason)
                print(told.reason)
                check_told((await fleet.actors("models")).out)
                with urlopen(f"{node.info.api_url}/cluster/state") as answer:  # noqa: ASYNC210
                    [said] = [
                        each for each in json.load(answer)["downloads"].values() if each["model"] == MODEL
                    ]
                check_told(said["reason"])
                assert free(disk) > MIB, "the bus keeps what it needs"
                assert bus.connection.up
            kept = [] if left else await recorded_until_full(bus)
            assert await answered(client), "tokens need no disk"
            ballast.unlink()
            await bus.view.until(lambda _: (each := fleet.download(bus, "a")) and each.is_over, timeout_s=120)
            told = fleet.download(bus, "a")
            assert told is not None
            came = told.bytes_done
            assert came >= fleet.size // 3
            before = hub.served.total()
            await fleet.pull()
            assert fleet.is_same("a")
            again = hub.served.total() - before - (fleet.size - came)
            print(f"{came:,} of {fleet.size:,} had come; {again:,} bytes came again")
            assert again <= MIB
            assert {recorded.seq async for recorded in bus.log.past()}.issuperset(kept)
            assert await answered(client)
        assert node.process.returncode is None


def check_told(text: str) -> None:
    assert "does not fit: it needs" in text and "are free" in text, text
