"""Folders that cannot be served, each with a sentence that names the file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.engine.factory import Wanted, make_engine
from actors.engine.port import EngineLoadError
from tests.engine.running import ORIGIN


def change_config(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def cut(name: str, length: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:length])

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (remove("config.json"), "config.json"),
    (remove("model.safetensors"), "model.safetensors"),
    (cut("config.json", 40), "config.json"),
    (cut("model.safetensors", 5), "model.safetensors"),
    (cut("model.safetensors", 300), "model.safetensors"),
    (cut("model.safetensors", 100_000), "model.safetensors"),
    (change_config(model_type="no_such_model"), "no_such_model"),
    (change_config(hidden_size=128), "do not fit config.json"),
    (change_config(num_hidden_layers=3), "do not fit config.json"),
]


@pytest.mark.parametrize(("damage", "named"), DAMAGES)
def test_a_damaged_model_is_refused_by_name(
    llama: Path, tmp_path: Path, damage: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(llama, folder)
    damage(folder)
    engine = make_engine(Wanted(engine="mlx", folder=folder, origin=ORIGIN))
    with pytest.raises(EngineLoadError) as raised:
        engine.load(lambda _: None)
    assert named in raised.value.reason and str(folder) in raised.value.reason
    assert not raised.value.retryable


def test_an_engine_needs_no_transformers(llama: Path) -> None:
    """They cost a second at each start, four from a cold disk."""
    program = (
        "import sys; from pathlib import Path; from actors.engine.factory import Wanted, make_engine\n"
        "from tests.engine.running import ORIGIN, ids\n"
        f"engine = make_engine(Wanted(engine='mlx', folder=Path({str(llama)!r}), origin=ORIGIN))\n"
        "engine.load(print); engine.warm(); assert len(ids(engine)) == 10\n"
        "assert not {'transformers', 'huggingface_hub', 'torch'} & set(sys.modules), sys.modules.keys()\n"
        "import huggingface_hub; assert huggingface_hub.__file__"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
