"""Room for a model: what goes, and what does not, though it was about to."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from actors.downloader.sources.manifest import FOLDER
from actors.downloader.sources.room import Kept, given_back, leaving
from actors.downloader.sources.shelf import USED, Shelf
from actors.downloader.sources.source import Unobtainable
from schemas.commands import Done, PullModel, RemoveModel
from schemas.events import InstancePlaced
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import Shard
from schemas.manifest import MIB
from schemas.model import ModelSpec
from schemas.refused import Refused
from schemas.state import Download, State
from tests.downloader.member import ME, SOURCE, Join
from tests.downloader.test_peers import same, size
from tests.hub import Hub
from tests.models import make_random_llama


@pytest.mark.parametrize(
    ("excess", "sizes", "goes"),
    [
        (0, [1, 2], []),
        (-5, [1, 2], []),
        (1, [1, 2], [0]),
        (3, [1, 2, 4], [0, 1]),
        (100, [60, 1, 50, 9], [0, 2]),
        (50, [1, 60], [1]),
        (9, [1, 2], [0, 1]),
    ],
)
def test_no_more_goes_than_it_takes(excess: int, sizes: list[int], goes: list[int]) -> None:
    kept = [Kept(Path(str(at)), each) for at, each in enumerate(sizes)]
    assert leaving(excess, kept) == [kept[at] for at in goes]


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Weights of 8 pieces."""
    return make_random_llama(tmp_path / "llama", hidden=128, layers=8)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Four models of 1 MiB; `0` was not used for longest."""
    for at in range(4):
        (tmp_path / str(at) / FOLDER).mkdir(parents=True)
        (tmp_path / str(at) / "weights").write_bytes(os.urandom(MIB))
        (tmp_path / str(at) / FOLDER / USED).touch()
        os.utime(tmp_path / str(at) / FOLDER / USED, (at, at))
    (tmp_path / "new").mkdir()
    return Shelf(tmp_path, max_bytes=4 * MIB + MIB // 2)


def left(shelf: Shelf) -> str:
    return "".join(sorted(path.name for path in shelf.models_dir.iterdir() if path.name != "new"))


async def test_what_is_needed_since_it_was_chosen_stays(shelf: Shelf) -> None:
    needed: set[Path] = set()
    shelf.in_use = lambda: frozenset(needed)

    async def place(_: Path) -> None:
        needed.add(shelf.models_dir / "1")

    shelf.on_removing = place
    await shelf.make_room("hf:new", shelf.models_dir / "new", 2 * MIB)
    assert left(shelf) == "13"


async def test_what_somebody_fills_stays(shelf: Shelf) -> None:
    async with shelf.filling[shelf.models_dir / "0"]:
        await shelf.make_room("hf:new", shelf.models_dir / "new", MIB)
    assert left(shelf) == "023"


async def test_who_comes_while_a_model_goes_waits_and_finds_nothing(shelf: Shelf) -> None:
    folder, going, go_on = shelf.models_dir / "0", asyncio.Event(), asyncio.Event()

    async def hold(_: Path) -> None:
        going.set()
        await go_on.wait()

    async def come() -> list[Path]:
        async with shelf.filling[folder]:
            return list(folder.iterdir()) if folder.exists() else []

    shelf.on_removing = hold
    making = asyncio.create_task(shelf.make_room("hf:new", shelf.models_dir / "new", MIB))
    await going.wait()
    coming = asyncio.create_task(come())
    await asyncio.sleep(0)
    assert not coming.done() and (folder / "weights").exists()
    go_on.set()
    assert await coming == []
    await making


async def test_nothing_goes_in_vain(shelf: Shelf) -> None:
    with pytest.raises(Unobtainable, match="too few"):
        await shelf.make_room("hf:new", shelf.models_dir / "new", 5 * MIB)
    shelf.max_bytes = 1 << 60
    with pytest.raises(Unobtainable, match="are free"):
        await shelf.make_room("hf:new", shelf.models_dir / "new", 1 << 59)
    assert left(shelf) == "0123"


async def test_what_has_a_name_in_a_folder_that_stays_gives_nothing_back(shelf: Shelf) -> None:
    """Revisions of a model share files: one goes in vain, and two give back what each of them alone does not."""
    older, served = shelf.models_dir / "0", shelf.models_dir / "3"
    (older / "weights").unlink()
    (older / "weights").hardlink_to(served / "weights")
    (older / "more").hardlink_to(served / "weights")
    assert [each.bytes // MIB for each in given_back([older, served], shelf.models_dir)] == [0, 1]
    shelf.in_use = lambda: frozenset({served})
    with pytest.raises(Unobtainable, match="too few"):
        await shelf.make_room("hf:new", shelf.models_dir / "new", 4 * MIB)
    assert left(shelf) == "0123"
    await shelf.make_room("hf:new", shelf.models_dir / "new", 2 * MIB)
    assert left(shelf) == "023"


async def test_a_model_that_is_placed_while_it_goes_comes_again(join: Join, hub: Hub, llama: Path) -> None:
    first = await join("a", max_bytes=size(llama) + MIB)
    hub.add("org/other", llama)
    await first.pull()
    await first.pulled()
    shelf = first.actor.sources.shelf
    forget = shelf.on_removing

    async def place_and_forget(folder: Path) -> None:
        shelf.on_removing = forget
        shelf.max_bytes = 0  # both may stay
        spec = ModelSpec(id=ME, source=SOURCE)
        placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=(Shard(node=NodeId("a")),))
        seq = await first.bus.log.decide(placed, term=1, after=await first.bus.log.last_decision())
        await first.bus.view.until(lambda state: state.seq >= seq)
        await forget(folder)

    shelf.on_removing = place_and_forget
    assert isinstance(await first.ask(PullModel(model=ModelId("other"), source="hf:org/other")), Done)
    await first.bus.view.until(lambda state: state.download(NodeId("a"), ME) is None)
    await first.pulled()
    assert same(first, llama)


async def test_what_the_disk_does_not_let_go_is_named_and_ends_nothing(
    join: Join, hub: Hub, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await join("a", max_bytes=size(llama) + MIB)
    hub.add("org/other", llama)
    await first.pull()
    await first.pulled()

    def keep(folder: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), folder)

    monkeypatch.setattr("shutil.rmtree", keep)
    other = ModelId("other")
    assert isinstance(await first.ask(PullModel(model=other, source="hf:org/other")), Done)

    def told(state: State) -> Download | None:
        return state.download(NodeId("a"), other)

    await first.bus.view.until(
        lambda state: (found := told(state)) and f"{first.model} cannot be" in found.reason
    )
    monkeypatch.undo()
    await first.bus.view.until(lambda state: (found := told(state)) and found.status == "complete")
    monkeypatch.setattr("shutil.rmtree", keep)
    refused = await first.ask(RemoveModel(model=other, source="hf:org/other"))
    assert isinstance(refused, Refused) and "cannot be removed: Device or resource busy" in refused.reason
