"""Several nodes want the same model: each byte leaves its place once, and the rest goes from node to node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from schemas.commands import Done, FilesFound, FindFiles, PullModel, RemoveModel
from schemas.events import InstancePlaced, NodeLost
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.manifest import MIB
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.state import Download
from tests.downloader.member import ME, SOURCE, WEIGHTS, Join, Member
from tests.facts import joined
from tests.hub import Hub
from tests.models import make_random_llama


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Weights of 8 pieces."""
    return make_random_llama(tmp_path / "llama", hidden=128, layers=8)


@asynccontextmanager
async def silence(hub: Hub) -> AsyncIterator[None]:
    """Nothing of the model leaves the hub meanwhile."""
    before = hub.served.total()
    yield
    assert hub.served.total() == before


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def same(member: Member, llama: Path) -> bool:
    return all((member.model / path.name).read_bytes() == path.read_bytes() for path in llama.iterdir())


async def test_each_byte_leaves_the_hub_once(join: Join, hub: Hub, llama: Path) -> None:
    members = [await join(name) for name in "abcd"]
    await asyncio.gather(*(member.pull() for member in members))
    downloads = await asyncio.gather(*(member.pulled() for member in members))
    assert all(same(member, llama) for member in members)
    assert hub.served.total() == size(llama) == sum(each.bytes_outside for each in downloads)
    assert sum(each.bytes_peers for each in downloads) == 3 * size(llama)


async def test_who_comes_later_asks_no_hub(join: Join, hub: Hub, llama: Path) -> None:
    first, later = await join("a"), await join("b")
    await first.pull()
    await first.pulled()
    hub.stop()
    await later.pull()
    assert (await later.pulled()).bytes_peers == size(llama)
    assert same(later, llama)


async def test_when_one_is_lost_another_brings_its_piece(join: Join, hub: Hub, llama: Path) -> None:
    hold = hub.hold(WEIGHTS, after=3 * MIB)
    first = await join("a")
    await first.pull()
    assert await asyncio.to_thread(hold.reached.wait, 60)
    second = await join("b")
    await second.pull()
    await first.stop()
    lost = NodeLost(node=first.bus.node, incarnation=joined("a").incarnation, why="its lease ran out")
    await second.bus.log.decide(lost, term=1, after=await second.bus.log.last_decision())
    hold.go_on.set()
    await second.pulled()
    assert same(second, llama)


async def test_who_comes_back_goes_on(join: Join, hub: Hub, llama: Path, tmp_path: Path) -> None:
    hold = hub.hold(WEIGHTS, after=3 * MIB)
    first = await join("a")
    await first.pull()
    assert await asyncio.to_thread(hold.reached.wait, 60)
    await first.stop()
    hold.go_on.set()
    again = Member(first.bus, first.folder, hub)
    await again.pull()
    await again.pulled()
    await again.stop()
    assert same(again, llama)
    assert hub.served.total() - size(llama) <= 4 * MIB, "what was on its way when it was stopped"


async def test_a_flipped_bit_is_found_and_mended_by_the_others(join: Join, hub: Hub, llama: Path) -> None:
    first, second = await join("a"), await join("b")
    for member in (first, second):
        await member.pull()
        await member.pulled()
    flip(second.model / WEIGHTS, at=5 * MIB)
    assert not same(second, llama)
    async with silence(hub):
        since = await second.pull(verify=True)
        assert (await second.pulled(since)).bytes_peers == MIB, "one piece"
    assert same(second, llama)


async def test_a_damaged_file_is_found_at_the_next_start(join: Join, llama: Path) -> None:
    """What was written to is read again, though nobody has asked for it."""
    first = await join("a")
    await first.pull()
    await first.pulled()
    flip(first.model / WEIGHTS, at=5 * MIB)
    since = await first.pull()
    assert (await first.pulled(since)).bytes_outside == MIB
    assert same(first, llama)


async def test_a_damaged_file_is_not_given_away_and_mended(join: Join, hub: Hub, llama: Path) -> None:
    first, second = await join("a"), await join("b")
    await first.pull()
    await first.pulled()
    flip(first.model / WEIGHTS, at=5 * MIB)
    await second.pull()
    await second.pulled()
    assert same(second, llama)
    async with asyncio.timeout(60):
        while not mended(first, llama):  # noqa: ASYNC110 - a disk tells nobody
            await asyncio.sleep(0.02)  # the pause: as above
    assert hub.served.total() - size(llama) <= 2 * MIB, "the damaged piece, and none but it"


def mended(member: Member, llama: Path) -> bool:
    """A file that is being mended is not in its place."""
    with suppress(FileNotFoundError):
        return same(member, llama)
    return False


async def test_offline_nothing_comes_from_outside(join: Join, hub: Hub, llama: Path) -> None:
    first, second = await join("a"), await join("b", offline=True)
    await second.pull()
    assert "`offline` forbids" in (await second.pulled(status="failed")).reason
    await first.pull()
    await first.pulled()
    async with silence(hub):
        await second.pull()
        await second.pulled()
    assert same(second, llama)


async def test_a_stranger_is_given_nothing(join: Join) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    found = await first.ask(FindFiles(source=SOURCE))
    assert isinstance(found, FilesFound) and found.manifest is not None
    address = f"{found.urls[0]}/org--llama@main/{found.manifest.commit}/config.json"
    known = {"Authorization": f"Bearer {found.token}"}
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{address}/0")).status_code == 401
        assert (await client.get(f"{address}/0", headers={"Authorization": "Bearer x"})).status_code == 401
        assert (await client.get(f"{address}/0", headers=known)).status_code == 200
        for path in ("/1", "/-1", "/x", "/0/0", "/../../../../etc/passwd"):
            assert (await client.get(address + path, headers=known)).status_code == 404


async def test_what_is_in_use_is_not_removed(join: Join, llama: Path) -> None:
    first = await join("a")
    spec = ModelSpec(id=ME, source=SOURCE)
    placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=(Shard(node=NodeId("a")),))
    await first.bus.log.decide(placed, term=1, after=await first.bus.log.last_decision())
    await first.pulled()
    refused = await first.ask(RemoveModel(model=ME, source=SOURCE))
    assert isinstance(refused, Refused) and "unload me first" in refused.reason


async def test_what_is_removed_is_gone(join: Join) -> None:
    first = await join("a")
    await first.pull()
    await first.pulled()
    assert isinstance(await first.ask(RemoveModel(model=ME, source=SOURCE)), Done)
    await first.bus.view.until(lambda state: state.download(NodeId("a"), ME) is None)
    assert not first.model.exists()


async def test_what_was_not_used_for_longest_makes_room(join: Join, hub: Hub, llama: Path) -> None:
    first = await join("a", max_bytes=2 * size(llama) + MIB)
    for name in ("llama", "second", "third"):
        hub.add(f"org/{name}", llama)
        order = PullModel(model=ModelId(name), source=f"hf:org/{name}")
        assert isinstance(await first.ask(order), Done)
        await first.bus.view.until(
            lambda state, name=name: is_complete(state.download(NodeId("a"), ModelId(name)))
        )
    await first.bus.view.until(lambda state: state.download(NodeId("a"), ModelId("llama")) is None)
    assert sorted(path.name for path in first.folder.iterdir()) == ["org--second@main", "org--third@main"]


async def test_a_model_beyond_the_bound_is_refused(join: Join, hub: Hub) -> None:
    first = await join("a", max_bytes=5 * MIB)
    await first.pull()
    assert "models_max_bytes allows 5,242,880" in (await first.pulled(status="failed")).reason
    assert hub.served[WEIGHTS] <= MIB, "only what says what the weights are"


def is_complete(download: Download | None) -> bool:
    return download is not None and download.status == "complete"


def flip(file: Path, at: int) -> None:
    """One bit."""
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))
