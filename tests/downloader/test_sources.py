"""Places that need no network."""

from pathlib import Path

import pytest

from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.source import Fetched, Progress, Unobtainable
from actors.downloader.sources.sources import Sources


@pytest.fixture
def sources(llama: Path, tmp_path: Path) -> Sources:
    builtin = {"guide": llama, "gone": tmp_path / "gone"}
    return Sources(Shelf(tmp_path / "models"), builtin, HubAccess(url="http://127.0.0.1:9"))


async def test_a_builtin_model_is_used_in_place(sources: Sources, llama: Path) -> None:
    assert await sources.named("builtin:guide").fetch(Progress()) == Fetched(llama)


async def test_a_folder_is_used_in_place(sources: Sources, llama: Path) -> None:
    assert (await sources.named(str(llama)).fetch(Progress())).folder == llama


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("builtin:giude", "did you mean builtin:guide"),
        ("builtin:x", "there is guide, gone"),
        ("builtin:gone", "missing from this installation"),
        ("/no/such/folder", "the folder /no/such/folder is not on this node"),
        ("models/llama", "'models/llama' names no place of models: write builtin:NAME"),
        ("hf:", "write hf:OWNER/NAME"),
        ("hf:../../etc", "write hf:OWNER/NAME"),
        ("hf:a/b/c", "write hf:OWNER/NAME"),
        ("hf:a/..", "write hf:OWNER/NAME"),
    ],
)
async def test_a_name_that_is_none_says_the_way_out(sources: Sources, source: str, says: str) -> None:
    with pytest.raises(Unobtainable, match=says):
        await sources.named(source).fetch(Progress())


async def test_a_file_is_no_folder(sources: Sources, llama: Path) -> None:
    with pytest.raises(Unobtainable, match="name the folder"):
        await sources.named(str(llama / "model.safetensors")).fetch(Progress())


async def test_a_link_to_nothing_in_a_folder_is_not_there(sources: Sources, llama: Path) -> None:
    held = (await sources.named(str(llama)).fetch(Progress())).revision
    (llama / "notes.txt").symlink_to("nowhere")
    assert (await sources.named(str(llama)).fetch(Progress())).revision == held


async def test_what_is_newest_of_a_folder_that_is_not_there(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(Unobtainable, match="is not on this node"):
        await sources.named(str(tmp_path / "nowhere")).newest()
