"""What a machine is said to offer, read from systems that are not here as well."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from actors.machine import accelerator
from actors.machine.accelerator import find_accelerator, output_of
from actors.machine.beats import hottest, sample_load
from actors.machine.memory import read_memory
from actors.machine.profile import measure_bandwidth, measure_profile
from schemas.ids import InstanceId, NodeId


def test_this_machine_has_a_plausible_profile() -> None:
    profile = measure_profile()
    assert profile.cores >= 1
    assert 2**28 < profile.memory_bytes <= psutil.virtual_memory().total
    assert profile.memory_bandwidth_bytes_s > 1e8
    assert profile.blas
    assert profile.flop_s > 1e8
    assert profile.read_bytes_s > 1e8
    assert "-" in profile.platform


def test_bandwidth_is_measured_even_when_there_is_no_time() -> None:
    assert measure_bandwidth(2**20, 0.0) > 0


def test_a_gpu_counts_only_with_mlx_that_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator.platform, "system", lambda: "Linux")
    listed = "NVIDIA H200, 143771\nNVIDIA H200, 143771\n"
    without = find_accelerator(lambda command: listed)
    assert without.kind == "cpu"
    assert "troupe[cuda]" in without.note
    monkeypatch.setattr(accelerator, "_mlx_has_cuda", lambda: True)
    found = find_accelerator(lambda command: listed)
    assert (found.kind, found.name, found.memory_bytes) == ("cuda", "NVIDIA H200", 143771 * 2**20)


@pytest.mark.parametrize("said", ["", "No devices were found", "NVIDIA-SMI has failed, [N/A]"])
def test_a_driver_without_a_gpu_is_no_gpu(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(accelerator.platform, "system", lambda: "Linux")
    assert find_accelerator(lambda command: said).kind == "cpu"


def test_apple_silicon_is_metal_with_the_whole_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(accelerator.platform, "machine", lambda: "arm64")
    found = find_accelerator(lambda command: "Apple M4 Max")
    assert (found.kind, found.name) == ("metal", "Apple M4 Max")
    assert found.memory_bytes == read_memory().total_bytes


def test_a_missing_or_failing_program_says_nothing() -> None:
    assert output_of(["no-such-program-here"]) == ""
    assert output_of(["false"]) == ""


def test_a_containers_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("600000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\nactive_file 5\n")
    memory = read_memory(tmp_path)
    assert (memory.total_bytes, memory.used_bytes, memory.free_bytes) == (1000000, 400000, 600000)
    (tmp_path / "memory.max").write_text("max\n")
    assert read_memory(tmp_path).total_bytes == psutil.virtual_memory().total


def test_a_sample_is_a_beat() -> None:
    beat = sample_load(NodeId("n1"), [InstanceId("i1")])
    assert (beat.node, beat.instances) == ("n1", ("i1",))
    assert beat.memory_free_bytes > 0
    assert 0 <= beat.cpu_percent <= 100


def test_the_processors_hottest_core_is_the_temperature() -> None:
    readings = {
        "nvme": [SimpleNamespace(current=70.0)],
        "coretemp": [SimpleNamespace(current=51.0), SimpleNamespace(current=55.5)],
    }
    assert hottest(readings) == 55.5
    assert hottest({"nvme": [SimpleNamespace(current=70.0)]}) is None
    assert hottest({}) is None
