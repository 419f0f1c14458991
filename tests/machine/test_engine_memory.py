"""What the engine was found to be is measured once an hour, and never believed when it cannot be read."""

import os
from pathlib import Path

import pytest

from actors.engine.report import EngineReport
from actors.machine import engine_memory
from actors.machine.engine_memory import KEPT_S, known_engine


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each time that the engine was measured; each report names how many there were."""
    times: list[bool] = []

    def ask(measure: bool) -> EngineReport:
        times.append(measure)
        return EngineReport(blas=f"report {len(times)}", fast=True)

    monkeypatch.setattr(engine_memory, "ask_engine", ask)
    return times


def test_it_is_measured_once(asked: list[bool], tmp_path: Path) -> None:
    assert [known_engine(tmp_path).blas for _ in range(3)] == ["report 1"] * 3
    assert asked == [True]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_old_or_no_report_is_measured_anew(asked: list[bool], tmp_path: Path) -> None:
    known_engine(tmp_path)
    (kept,) = tmp_path.iterdir()
    old = kept.stat().st_mtime - KEPT_S - 1
    os.utime(kept, (old, old))
    assert known_engine(tmp_path).blas == "report 2"
    kept.write_bytes(b"{")
    assert known_engine(tmp_path).blas == "report 3"
    assert known_engine(tmp_path).blas == "report 3"


def test_where_nothing_can_be_kept_it_is_measured_each_time(asked: list[bool], tmp_path: Path) -> None:
    nowhere = tmp_path / "gone"
    assert [known_engine(nowhere).blas for _ in range(2)] == ["report 1", "report 2"]


def test_nothing_is_written_through_what_somebody_else_has_put_there(
    asked: list[bool], tmp_path: Path
) -> None:
    known_engine(tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.unlink()
    precious = tmp_path / "precious"
    kept.with_suffix(f".{os.getpid()}").symlink_to(precious)
    assert known_engine(tmp_path).blas == "report 2"
    assert not precious.exists()
