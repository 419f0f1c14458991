"""Models from a hub, over real HTTP."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest

from actors.downloader.sources.fetched_model import FetchedModel
from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.hub_model import HubModel
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Fetched, Progress, Unavailable, Unobtainable
from actors.downloader.sources.sources import Sources
from schemas.manifest import MIB
from tests.hub import Hub, Refusal
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Weights of 4 MB: several pieces."""
    return make_random_llama(tmp_path / "llama", hidden=128, layers=4)


@pytest.fixture
def model(hub: Hub, known: Sources, llama: Path) -> FetchedModel:
    hub.add("org/llama", llama)
    return FetchedModel(known.shelf, HubModel(known.access, "hf:org/llama"))


def sources(hub: Hub, folder: Path, token: str = "") -> Sources:
    return Sources(Shelf(folder), {}, HubAccess(url=hub.url, token=token))


class Counted(Progress):
    """Says when so many bytes are here."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.reached = asyncio.Event()

    def add(self, count: int) -> None:
        super().add(count)
        if self.bytes_done >= self.count:
            self.reached.set()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def same(fetched: Fetched, original: Path) -> bool:
    return contents(fetched.folder) == contents(original)


def test_the_hub_of_these_tests_speaks_as_huggingface_hub_expects(
    hub: Hub, llama: Path, tmp_path: Path
) -> None:
    hub.add("org/llama", llama)
    target = tmp_path / "snapshot"
    huggingface_hub.snapshot_download("org/llama", endpoint=hub.url, local_dir=target, token=False)
    assert all((target / path.name).read_bytes() == path.read_bytes() for path in llama.iterdir())


async def test_all_files_come(model: FetchedModel, llama: Path) -> None:
    progress = Progress()
    folder = (await model.fetch(progress)).folder
    assert same(Fetched(folder), llama)
    assert progress.bytes_done == progress.bytes_total == sum(map(len, contents(llama).values()))
    assert list((folder / ".troupe").glob("*.partial")) == []


async def test_only_what_an_engine_reads_comes(hub: Hub, known: Sources, llama: Path) -> None:
    others = ["README.md", "pytorch_model.bin", "llama.gguf", "modeling.py", "original/model.safetensors"]
    others += ["consolidated.safetensors", ".gitattributes", "onnx/model.onnx"]
    hub.add("org/llama", {**contents(llama), **dict.fromkeys(others, b"not wanted")})
    assert same(await known.named("hf:org/llama").fetch(Progress()), llama)
    assert not any(hub.served[other] for other in others)


async def test_what_is_here_needs_no_hub(model: FetchedModel, hub: Hub, known: Sources) -> None:
    folder = (await model.fetch(Progress())).folder
    hub.stop()
    assert (await known.named("hf:org/llama").fetch(Progress())).folder == folder


async def test_a_file_that_was_lost_comes_again_alone(model: FetchedModel, hub: Hub, llama: Path) -> None:
    folder = (await model.fetch(Progress())).folder
    (folder / WEIGHTS).unlink()
    hub.served.clear()
    assert same(await model.fetch(Progress()), llama)
    assert set(hub.served) == {WEIGHTS}


async def test_a_connection_that_is_cut_goes_on_where_it_was(
    model: FetchedModel, hub: Hub, llama: Path
) -> None:
    size = (llama / WEIGHTS).stat().st_size
    hub.plan(WEIGHTS).cuts = [1000]
    progress = Progress()
    with pytest.raises(Unavailable, match=WEIGHTS):
        await model.fetch(progress)
    assert same(await model.fetch(progress), llama)
    assert progress.bytes_done == progress.bytes_total
    begins = {int(asked.headers["Range"].split("=")[1].split("-")[0]) for asked in hub.asked_for(WEIGHTS)}
    assert any(begin % MIB == 1000 for begin in begins), "it began in the middle of a piece"
    assert size <= hub.served[WEIGHTS] < 2 * size


async def test_a_hub_that_knows_no_ranges_starts_again(model: FetchedModel, hub: Hub, llama: Path) -> None:
    hub.plan(WEIGHTS).cuts = [1000]
    hub.plan(WEIGHTS).no_ranges = True
    progress = Progress()
    with pytest.raises(Unavailable):
        await model.fetch(progress)
    assert same(await model.fetch(progress), llama)
    assert progress.bytes_done == progress.bytes_total


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_hub_that_is_busy_is_asked_again(
    model: FetchedModel, hub: Hub, llama: Path, status: int
) -> None:
    hub.plan(WEIGHTS).refusals = [Refusal(status, headers={"Retry-After": "7"})]
    with pytest.raises(Unavailable, match=f"{WEIGHTS} answered {status}") as failure:
        await model.fetch(Progress())
    assert failure.value.retry_after_s == 7.0
    assert same(await model.fetch(Progress()), llama)


async def test_a_hub_that_is_away_may_come_back(model: FetchedModel, hub: Hub) -> None:
    hub.stop()
    with pytest.raises(Unavailable, match="cannot be read"):
        await model.fetch(Progress())
    hub.start()
    await model.fetch(Progress())


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("hf:org/nothing", "hf:org/nothing is not on the hub, or is private .* answered 401"),
        ("hf:org/llama@v9", "hf:org/llama@v9 has no such revision .* answered 404"),
    ],
)
async def test_what_is_not_there(model: FetchedModel, known: Sources, source: str, says: str) -> None:
    with pytest.raises(Unobtainable, match=says):
        await known.named(source).fetch(Progress())


@pytest.mark.parametrize(("gated", "says"), [(True, "is gated"), (False, "is not on the hub, or is private")])
async def test_what_needs_a_token(
    model: FetchedModel, hub: Hub, gated: bool, says: str, tmp_path: Path
) -> None:
    repository = hub.repositories["org/llama"]
    repository.token, repository.gated = "secret", gated
    with pytest.raises(Unobtainable, match=says):
        await model.fetch(Progress())
    knowing = sources(hub, tmp_path / "others", "secret")
    await knowing.named("hf:org/llama").fetch(Progress())


async def test_a_token_stays_with_the_hub(hub: Hub, llama: Path, tmp_path: Path) -> None:
    """Large files lie on another host, to which it is none of a token's business to go."""
    hub.add("org/llama", llama)
    hub.store_url = f"http://localhost:{hub.port}"
    known = sources(hub, tmp_path / "models", "secret")
    await known.named("hf:org/llama").fetch(Progress())
    told = {
        asked.path.split("/")[1]
        for asked in hub.asked
        if "authorization" in {key.lower() for key in asked.headers}
    }
    assert told == {"api", "org"}


async def test_a_file_that_is_gone_from_the_hub_is_named(model: FetchedModel, hub: Hub) -> None:
    hub.plan("config.json").refusals = [Refusal(404, "EntryNotFound")]
    with pytest.raises(Unobtainable, match=r"lacks a file \(.*config.json answered 404\)"):
        await model.fetch(Progress())


async def test_a_refusal_without_a_name(model: FetchedModel, hub: Hub) -> None:
    hub.plan(WEIGHTS).refusals = [Refusal(403)]
    with pytest.raises(Unobtainable, match=f"hf:org/llama cannot be fetched: .*{WEIGHTS} answered 403"):
        await model.fetch(Progress())


async def test_bytes_with_another_hash_are_not_taken(model: FetchedModel, hub: Hub, llama: Path) -> None:
    hub.plan(WEIGHTS).spoiled = True
    with pytest.raises(Unobtainable, match=f"{WEIGHTS} of hf:org/llama is not what its place has listed"):
        await model.fetch(Progress())
    assert not (model.folder / WEIGHTS).exists()
    hub.plan(WEIGHTS).spoiled = False
    assert same(await model.fetch(Progress()), llama)


async def test_a_small_file_with_another_hash_is_not_taken(model: FetchedModel, hub: Hub) -> None:
    hub.plan("config.json").spoiled = True
    with pytest.raises(Unobtainable, match=r"config\.json of hf:org/llama is not what its place has listed"):
        await model.fetch(Progress())


async def test_a_beginning_that_was_damaged_on_the_disk_is_thrown_away(
    model: FetchedModel, hub: Hub, llama: Path
) -> None:
    hold = hub.hold(WEIGHTS, after=2 * MIB)
    progress = Counted(sum(map(len, contents(llama).values())) - MIB)
    fetching = asyncio.create_task(model.fetch(progress))
    await progress.reached.wait()
    fetching.cancel()
    await asyncio.wait([fetching])
    hold.go_on.set()
    (partial,) = (model.folder / ".troupe").glob(f"{WEIGHTS}*.partial")
    partial.write_bytes(bytes(partial.stat().st_size))
    assert same(await model.fetch(Progress()), llama)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "it has no config.json"),
        ("tokenizer.json", "it has no tokenizer.json"),
        (WEIGHTS, "it has no weights in safetensors files"),
    ],
)
async def test_what_cannot_be_served_is_not_fetched(
    hub: Hub, known: Sources, llama: Path, missing: str, says: str
) -> None:
    hub.add("org/llama", {file: content for file, content in contents(llama).items() if file != missing})
    with pytest.raises(Unobtainable, match=says):
        await known.named("hf:org/llama").fetch(Progress())
    assert hub.served.total() == 0


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"siblings": 3}'])
async def test_a_site_that_is_no_hub(model: FetchedModel, hub: Hub, body: bytes) -> None:
    hub.info.body = body
    with pytest.raises(Unobtainable, match="does not answer like a hub"):
        await model.fetch(Progress())


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "nonsense", "http://host:port"])
async def test_an_address_that_is_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(Unobtainable, match="is no address of a hub"):
        await Sources(Shelf(tmp_path), {}, HubAccess(url=url)).named("hf:org/llama").fetch(Progress())


async def test_a_disk_without_room_is_known_before_the_first_byte(model: FetchedModel, hub: Hub) -> None:
    hub.sizes[WEIGHTS] = 10**13
    with pytest.raises(
        Unobtainable, match=r"hf:org/llama does not fit: it needs 10,000,0[\d,]+ more bytes in .*free"
    ):
        await model.fetch(Progress())
    assert hub.served.total() == 0


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the kernel's own refusal, in the middle of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fills_up_keeps_what_has_come(model: FetchedModel, hub: Hub, llama: Path) -> None:
    with (
        full_at(1_500_000),
        pytest.raises(Unobtainable, match=r"needs [\d,]+ more bytes in .* \(File too large\)"),
    ):
        await model.fetch(Progress())
    (partial,) = (model.folder / ".troupe").glob(f"{WEIGHTS}*.partial")
    assert partial.stat().st_size <= 1_500_000
    assert same(await model.fetch(Progress()), llama)


async def test_a_folder_that_cannot_be_made(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unobtainable, match=r"hf:org/llama cannot be stored: .*Not a directory"):
        await sources(hub, tmp_path / "file").named("hf:org/llama").fetch(Progress())


async def test_cancelling_ends_at_once_and_keeps_what_has_come(
    model: FetchedModel, hub: Hub, llama: Path
) -> None:
    hold = hub.hold(WEIGHTS, after=3 * MIB)
    fetching = asyncio.create_task(model.fetch(Progress()))
    assert await asyncio.to_thread(hold.reached.wait, 60)
    fetching.cancel()
    async with asyncio.timeout(2):
        await asyncio.wait([fetching])
    assert fetching.cancelled()
    hold.go_on.set()
    assert same(await model.fetch(Progress()), llama)
    assert "Range" in hub.asked_for(WEIGHTS)[-1].headers


async def test_the_loop_is_free_meanwhile(model: FetchedModel, hub: Hub, llama: Path) -> None:
    """A hub that says nothing blocks nobody."""
    hold = hub.hold(WEIGHTS, after=1000)
    fetching = asyncio.create_task(model.fetch(Progress()))
    assert await asyncio.to_thread(hold.reached.wait, 60)
    assert not fetching.done()
    hold.go_on.set()
    assert same(await fetching, llama)


async def test_two_models_from_one_repository_are_fetched_once(
    model: FetchedModel, hub: Hub, known: Sources
) -> None:
    other = known.named("hf:org/llama")
    await asyncio.gather(model.fetch(Progress()), other.fetch(Progress()))
    assert hub.served[WEIGHTS] == (model.folder / WEIGHTS).stat().st_size


async def test_another_process_in_the_same_folder_is_waited_for(
    model: FetchedModel, hub: Hub, tmp_path: Path
) -> None:
    hold = hub.hold(WEIGHTS, after=1000)
    fetching = asyncio.create_task(model.fetch(Progress()))
    assert await asyncio.to_thread(hold.reached.wait, 60)
    stranger = sources(hub, tmp_path / "models").named("hf:org/llama")
    with pytest.raises(Unavailable, match="another process on this machine is filling"):
        await stranger.fetch(Progress())
    hold.go_on.set()
    assert await fetching == await stranger.fetch(Progress())


async def test_a_download_is_of_one_commit(model: FetchedModel, hub: Hub, llama: Path) -> None:
    """Also when the branch has moved on between two tries."""
    hub.plan(WEIGHTS).cuts = [1000]
    with pytest.raises(Unavailable):
        await model.fetch(Progress())
    hub.add("org/llama", {**contents(llama), "config.json": b"{}"})
    assert same(await model.fetch(Progress()), llama)


async def test_a_commit_that_is_gone_is_replaced_by_what_there_is_now(
    model: FetchedModel, hub: Hub, llama: Path
) -> None:
    hub.plan(WEIGHTS).cuts = [1000]
    with pytest.raises(Unavailable):
        await model.fetch(Progress())
    repository = hub.repositories["org/llama"]
    repository.commits.clear()
    (llama / "config.json").write_bytes((llama / "config.json").read_bytes().replace(b"llama", b"lLama"))
    hub.add("org/llama", llama)
    assert same(await model.fetch(Progress()), llama)
    assert "Range" in hub.asked_for(WEIGHTS)[-1].headers


async def test_revisions_lie_side_by_side(model: FetchedModel, hub: Hub, known: Sources, llama: Path) -> None:
    hub.add("org/llama", llama, branch="refs/pr/1")
    at_main = await model.fetch(Progress())
    assert await known.named("hf:org/llama@refs/pr/1").fetch(Progress()) != at_main
