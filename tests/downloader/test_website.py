"""Models in a folder of a web server."""

import hashlib
from pathlib import Path

import pytest

from actors.downloader.sources.checksums import parse_sums
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable
from actors.downloader.sources.sources import Sources
from tests.hub import Hub, Refusal
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make_random_llama(tmp_path / "llama", hidden=128, layers=4)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(Shelf(tmp_path / "models"), {})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def with_sums(files: dict[str, bytes]) -> dict[str, bytes]:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in files.items()]
    return {**files, "SHA256SUMS": "\n".join(lines).encode()}


async def test_a_folder_with_sums_is_a_model(hub: Hub, llama: Path, sources: Sources) -> None:
    hub.add("org/llama", with_sums({**contents(llama), "README.md": b"not wanted"}))
    fetched = await sources.named(f"{hub.url}/static/org/llama/").fetch(Progress())
    assert contents(fetched.folder) == contents(llama)
    assert hub.served["README.md"] == 0


async def test_a_part_that_is_cut_is_gone_on_from(hub: Hub, llama: Path, sources: Sources) -> None:
    hub.add("org/llama", with_sums(contents(llama)))
    hub.plan(WEIGHTS).cuts = [1000]
    model = sources.named(f"{hub.url}/static/org/llama")
    with pytest.raises(Unavailable, match=WEIGHTS):
        await model.fetch(Progress())
    assert contents((await model.fetch(Progress())).folder) == contents(llama)


async def test_a_shard_asks_for_its_parts(hub: Hub, llama: Path, sources: Sources) -> None:
    hub.add("org/llama", with_sums(contents(llama)))
    await sources.named(f"{hub.url}/static/org/llama").fetch(Progress(), ((0, 1),))
    assert hub.served[WEIGHTS] < (llama / WEIGHTS).stat().st_size


async def test_bytes_that_are_not_those_of_the_sums(hub: Hub, llama: Path, sources: Sources) -> None:
    files = with_sums(contents(llama))
    hub.add("org/llama", {**files, WEIGHTS: bytes(len(files[WEIGHTS]))})
    with pytest.raises(Unobtainable, match="is not what its place has listed"):
        await sources.named(f"{hub.url}/static/org/llama").fetch(Progress())


async def test_what_is_wrong_is_said(hub: Hub, llama: Path, sources: Sources) -> None:
    hub.add("org/llama", contents(llama))
    address = f"{hub.url}/static/org/llama"
    with pytest.raises(Unobtainable, match=r"has no SHA256SUMS.*run `sha256sum"):
        await sources.named(address).fetch(Progress())
    hub.add("org/llama", with_sums({"config.json": b"{}"}))
    with pytest.raises(Unobtainable, match=r"cannot be served: it has no tokenizer\.json"):
        await sources.named(address).fetch(Progress())
    hub.add("org/llama", with_sums(contents(llama)))
    hub.plan("SHA256SUMS").refusals = [Refusal(503)]
    with pytest.raises(Unavailable, match="answered 503"):
        await sources.named(address).fetch(Progress())


@pytest.mark.parametrize(
    "source", ["https://", "https://host/a?b=c", "https://me:secret@host/a", "http://h/a#b"]
)
def test_an_address_that_is_no_folder(source: str, sources: Sources) -> None:
    with pytest.raises(Unobtainable, match="write https://HOST/FOLDER"):
        sources.named(source)


def test_sums_in_both_manners() -> None:
    digest = "0" * 64
    assert parse_sums(f"{digest}  a b.json\n{digest} *./c\n\nnonsense\n") == {"a b.json": digest, "c": digest}


async def test_other_sums_are_another_revision(
    hub: Hub, llama: Path, sources: Sources, tmp_path: Path
) -> None:
    source = sources.named(f"{hub.url}/static/org/llama")
    hub.add("org/llama", with_sums(contents(llama)))
    was = await source.newest()
    assert await source.newest() == was
    hub.add("org/llama", with_sums(contents(make_random_llama(tmp_path / "other", seed=1))))
    assert await source.newest() != was
