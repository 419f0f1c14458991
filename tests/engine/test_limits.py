"""What an engine takes by itself of the memory that it may use, which is a container's where there is one."""

from pathlib import Path

import pytest

from actors.engine import limits, measurement
from actors.engine.limits import Limits
from actors.engine.measurement import NEAR, far_matrices
from actors.machine.memory import Memory, read_memory

MIB = 2**20


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 96 MiB, of which 32 are used."""
    (tmp_path / "memory.max").write_text(f"{96 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{32 * MIB}\n")

    def read() -> Memory:
        return read_memory(tmp_path)

    for module in (limits, measurement):
        monkeypatch.setattr(module, "read_memory", read)


@pytest.mark.usefixtures("container")
def test_a_containers_memory_is_all_there_is() -> None:
    assert Limits().running_bytes(on_cpu=True) == 32 * MIB
    assert Limits().prefix_bytes(on_cpu=True) == 8 * MIB
    assert far_matrices() == NEAR, "more would be the end of the node that measures"
