"""Cores that a process may use."""

import os
import sys
from pathlib import Path

import pytest

from actors.engine.cores import usable_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity and cgroups are Linux's")


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("50 100 9", None)])
def test_a_container_s_share_is_respected(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == (cores or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("quota", ["max 100000", "", "9900000 100000"])
def test_without_a_limit_it_is_the_affinity(tmp_path: Path, quota: str) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == len(os.sched_getaffinity(0))


def test_without_cgroups_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))
