"""Logs of runners are bounded: one that writes for ever, and many that have come and gone."""

import os
from pathlib import Path

from actors.worker.runner_log import RunnerLog


def test_a_long_log_is_put_aside_once(tmp_path: Path) -> None:
    log = RunnerLog(tmp_path / "runner-a.log", most_bytes=100)
    for number in range(1000):
        log.add(b"line %d" % number)
    kept = sorted(tmp_path.iterdir())
    assert [each.name for each in kept] == ["runner-a.log", "runner-a.log.1"] or len(kept) == 1
    assert sum(each.stat().st_size for each in kept) <= 220
    assert b"line 999" in b"".join(each.read_bytes() for each in kept)


def test_logs_of_the_oldest_instances_go_and_a_runner_keeps_its_own(tmp_path: Path) -> None:
    for number in range(6):
        file = tmp_path / f"runner-{number}.log"
        file.write_bytes(b"old\n")
        os.utime(file, (number, number))
    (tmp_path / "nats.log").write_bytes(b"not a runner's")
    log = RunnerLog(tmp_path / "runner-0.log", most_files=4)
    log.add(b"new")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"runner-0.log", "runner-3.log", "runner-4.log", "runner-5.log", "nats.log"}
    assert (tmp_path / "runner-0.log").read_bytes() == b"old\nnew\n"


def test_what_cannot_be_kept_ends_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    RunnerLog(tmp_path / "file" / "runner-a.log").add(b"lost")
