"""Models in a bucket: a server of its own on this machine that speaks S3 (moto), asked over real HTTP."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import obstore
import pytest
from moto.server import ThreadedMotoServer

from actors.downloader.sources.bucket import BucketAccess
from actors.downloader.sources.fetched_model import FetchedModel
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Progress, Unavailable, Unobtainable
from actors.downloader.sources.sources import Sources
from tests.models import make_random_llama

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def access(endpoint: str) -> BucketAccess:
    httpx2.post(f"{endpoint}/moto-api/reset")
    httpx2.put(
        f"{endpoint}/models",
        headers={"Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request"},
    )
    return BucketAccess(endpoint, "us-east-1", "key", "secret")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make_random_llama(tmp_path / "llama", hidden=128, layers=4)


@pytest.fixture
def sources(access: BucketAccess, tmp_path: Path) -> Sources:
    return Sources(Shelf(tmp_path / "models"), {}, buckets=access)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put(access: BucketAccess, files: dict[str, bytes], prefix: str = "org/llama") -> None:
    for name, content in files.items():
        obstore.put(access.store("models"), f"{prefix}/{name}", content)


async def test_what_lies_beneath_a_prefix_is_a_model(
    access: BucketAccess, sources: Sources, llama: Path
) -> None:
    put(access, {**contents(llama), "README.md": b"not wanted"})
    put(access, {"model.safetensors": b"another"}, prefix="org/llama/deeper")
    put(access, {"model.safetensors": b"another"}, prefix="org/llama-2")
    fetched = await sources.named("s3://models/org/llama/").fetch(Progress())
    assert contents(fetched.folder) == contents(llama)


async def test_a_shard_asks_for_its_parts(access: BucketAccess, sources: Sources, llama: Path) -> None:
    put(access, contents(llama))
    progress = Progress()
    await sources.named("s3://models/org/llama").fetch(progress, ((0, 1),))
    assert progress.bytes_outside < (llama / WEIGHTS).stat().st_size


async def test_sums_are_believed_where_there_are_any(
    access: BucketAccess, sources: Sources, llama: Path
) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    put(access, {**contents(llama), "SHA256SUMS": f"{wrong}  {WEIGHTS}\n".encode()})
    with pytest.raises(Unobtainable, match=rf"{WEIGHTS} of s3://models/org/llama is not what its place"):
        await sources.named("s3://models/org/llama").fetch(Progress())


async def test_a_model_that_changes_while_it_is_fetched_is_fetched_anew(
    access: BucketAccess, sources: Sources, llama: Path, tmp_path: Path
) -> None:
    """The listing is old by then: what is asked for is asked for by its ETag."""
    put(access, contents(llama))
    model = sources.named("s3://models/org/llama")
    assert isinstance(model, FetchedModel)
    async with model.outside.client() as client:
        listed = await model.outside.listing(client)
    (model.folder / ".troupe").mkdir(parents=True)
    model.shelf.keep(model.folder, listed)
    other = make_random_llama(tmp_path / "other", hidden=128, layers=4, seed=1)
    put(access, contents(other))
    fetched = await model.fetch(Progress())
    assert contents(fetched.folder) == contents(other)


async def test_an_object_that_was_replaced_makes_another_revision(
    access: BucketAccess, sources: Sources, llama: Path, tmp_path: Path
) -> None:
    source = "s3://models/org/llama"
    put(access, contents(llama))
    was = await sources.named(source).newest()
    assert await sources.named(source).newest() == was
    other = make_random_llama(tmp_path / "other", hidden=128, layers=4, seed=1)
    put(access, {WEIGHTS: (other / WEIGHTS).read_bytes()})
    now = await sources.named(source).newest()
    assert now != was
    fetched = await sources.named(f"{source}#{now}").fetch(Progress())
    assert contents(fetched.folder) == contents(other)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("s3://models", "write s3://BUCKET/PREFIX"),
        ("s3://nobodys/llama", "s3://nobodys/llama cannot be (fetched|read)"),
        ("s3://models/nothing", "s3://models/nothing cannot be served: it has no config.json"),
    ],
)
async def test_what_is_not_there(sources: Sources, source: str, says: str) -> None:
    with pytest.raises((Unobtainable, Unavailable), match=says):
        await sources.named(source).fetch(Progress())


async def test_no_secret_is_in_what_is_said(access: BucketAccess, sources: Sources, llama: Path) -> None:
    put(access, contents(llama))
    model = sources.named("s3://models/org/llama")
    assert isinstance(model, FetchedModel)
    async with model.outside.client() as client:
        model.shelf.keep(made(model.folder), await model.outside.listing(client))
    obstore.delete(access.store("models"), f"org/llama/{WEIGHTS}")
    obstore.delete(access.store("models"), "org/llama/config.json")
    with pytest.raises(Unobtainable) as failure:
        await model.fetch(Progress())
    assert "Signature" not in str(failure.value)


def made(folder: Path) -> Path:
    (folder / ".troupe").mkdir(parents=True)
    return folder
