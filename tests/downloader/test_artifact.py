"""The artifact of a model is small, complete, and equal wherever it is made."""

import shutil
import zipfile
from io import BytesIO
from pathlib import Path

from actors.downloader.artifact import pack
from schemas.ids import ModelId


def test_it_holds_the_texts_and_no_weights(llama: Path) -> None:
    (llama / "chat_template.jinja").write_text("{{ messages }}")
    artifact = pack(ModelId("me"), llama)
    with zipfile.ZipFile(BytesIO(artifact.data)) as archive:
        names = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
        assert archive.namelist() == names
        assert {name: archive.read(name) for name in names} == {
            name: (llama / name).read_bytes() for name in names
        }


def test_equal_files_make_an_equal_artifact(llama: Path, tmp_path: Path) -> None:
    """Whatever folder they lie in, and whenever they were written."""
    other = shutil.copytree(llama, tmp_path / "other", copy_function=shutil.copyfile)
    assert pack(ModelId("me"), llama) == pack(ModelId("me"), other)


def test_its_name_changes_with_what_is_in_it(llama: Path) -> None:
    before = pack(ModelId("me"), llama).name
    (llama / "config.json").write_text("{}")
    assert pack(ModelId("me"), llama).name != before
