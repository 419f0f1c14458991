"""A data folder has one holder, and its files are whole; a second process is a real one."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.machine import data_folder
from actors.machine.data_folder import DataFolder, DataFolderError, holder
from actors.machine.node_info import NodeInfo, read_node_info
from schemas.ids import NodeId

HOLDER = """
import sys
from pathlib import Path
from actors.machine.data_folder import DataFolder
folder = DataFolder.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
folder.close()
"""
INFO = NodeInfo(node_id=NodeId("n1"), pid=7, nats_url="nats://h:1", api_url="http://h:2", name="one")


@contextmanager
def another_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_node_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with another_holder(tmp_path / "d") as process:
        assert holder(tmp_path / "d") == process.pid
        with pytest.raises(
            DataFolderError, match=rf"in use by another node \(pid {process.pid}\).*actors down"
        ):
            DataFolder.open(tmp_path / "d")


def test_a_killed_node_leaves_the_folder_free(tmp_path: Path) -> None:
    with another_holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert holder(tmp_path) is None
        folder = DataFolder.open(tmp_path)
        assert holder(tmp_path) == os.getpid()
        folder.close()
    assert holder(tmp_path) is None


def test_programs_that_a_node_starts_do_not_hold_its_folder(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        folder.close()
        assert holder(tmp_path) is None
        child.kill()


def test_the_node_keeps_its_id(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    first = folder.node_id()
    folder.close()
    again = DataFolder.open(tmp_path)
    assert again.node_id() == first
    again.close()


def test_node_json_is_there_while_the_node_is_ready(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    assert read_node_info(folder.node_file) is None
    folder.announce(INFO)
    assert read_node_info(folder.node_file) == INFO
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    folder.close()
    assert not folder.node_file.exists()


def test_what_a_killed_node_left_is_gone_when_the_next_one_starts(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text('{"pid": 1}')
    folder = DataFolder.open(tmp_path)
    assert not folder.node_file.exists()
    assert all(kept.is_dir() for kept in (folder.nats, folder.models, folder.logs))
    folder.close()


def test_garbage_in_node_json_is_no_node(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_bytes(b"\xff{")
    assert read_node_info(tmp_path / "node.json") is None


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match=r"is no folder.*--data-dir"):
        DataFolder.open(tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "d"))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(DataFolderError, match=r"/d is not writable \(Read-only file system"):
        DataFolder.open(tmp_path / "d")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "LEAST_FREE_BYTES", 2**62)
    with pytest.raises(DataFolderError, match=r"is full: \d+ MiB are free"):
        DataFolder.open(tmp_path)
    assert holder(tmp_path) is None


def test_a_disk_that_fills_up_while_a_file_is_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DataFolder.open(tmp_path)

    def full(_: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder.node_file))

    monkeypatch.setattr(data_folder, "write_whole", full)
    with pytest.raises(DataFolderError, match="the disk is full"):
        folder.announce(INFO)
    folder.close()
