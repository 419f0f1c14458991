"""The folder in which a node keeps all that it keeps; one node at a time."""

import errno
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

import msgspec

from actors.machine.node_info import NodeInfo, read_node_info
from schemas.ids import NodeId, new_node_id

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""With less free space than this the bus could not write its log."""


class DataFolderError(Exception):
    """The data folder cannot be used; the message names it, what is wrong, and the way out."""


class DataFolder:
    """A data folder that this process holds until `close`.

    `join.token` is what peers must know, `node.lock` is locked for as long as the process lives and says its pid, `node.id` names the node through
    all its lives, `node.json` says the addresses while the node is ready.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make the folder where it is missing and hold it; DataFolderError when that cannot be."""
        path = path.expanduser().absolute()
        try:
            path.mkdir(parents=True, exist_ok=True)
            _check_space(path)
            folder = cls(path, _hold(path))
            for kept in (folder.nats, folder.models, folder.logs):
                kept.mkdir(exist_ok=True)
        except OSError as error:
            raise DataFolderError(_sentence(path, error)) from error
        folder.retract()
        return folder

    @property
    def nats(self) -> Path:
        """Store, log and configuration of the embedded server."""
        return self.path / "nats"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def node_file(self) -> Path:
        return self.path / "node.json"

    def node_id(self) -> NodeId:
        """The name of this node, the same in each of its lives."""
        file = self.path / "node.id"
        try:
            kept = file.read_text().strip() if file.exists() else ""
            if kept:
                return NodeId(kept)
            made = new_node_id()
            write_whole(file, made.encode() + b"\n")
        except OSError as error:
            raise DataFolderError(_sentence(self.path, error)) from error
        return made

    def join_token(self, given: str) -> str:
        """What peers must know: what was `given`, which is kept from now on, else what is kept; empty: neither."""
        file = self.path / "join.token"
        try:
            if given:
                write_whole(file, given.encode() + b"\n")
            return given or (file.read_text().strip() if file.exists() else "")
        except OSError as error:
            raise DataFolderError(_sentence(self.path, error)) from error

    def announce(self, info: NodeInfo) -> None:
        """Write `node.json`: this node is ready."""
        try:
            write_whole(self.node_file, msgspec.json.format(msgspec.json.encode(info)) + b"\n")
        except OSError as error:
            raise DataFolderError(_sentence(self.path, error)) from error

    def retract(self) -> None:
        """Remove `node.json`: this node is not, or no longer, ready."""
        self.node_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder."""
        self.retract()
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(self._lock)


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())
        Path(temporary).replace(file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def holder(path: Path) -> int | None:
    """The pid of the node that holds a data folder; None when nobody does."""
    try:
        lock = os.open(path / "node.lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _pid_in(lock)
    finally:
        os.close(lock)
    return None


def _hold(path: Path) -> int:
    lock = os.open(path / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(lock)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BlockingIOError as error:
        raise DataFolderError(_held_sentence(path, _pid_in(lock))) from error
    return lock


def _lock(lock: int) -> None:
    """Lock at once, or nearly: `holder` of another process holds the lock for microseconds while it looks."""
    for pause_s in (0.001, 0.01, 0.05):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _pid_in(lock: int) -> int:
    """The pid that a lock file says; 0 when it says none."""
    written = os.pread(lock, 32, 0).strip()
    return int(written) if written.isdigit() else 0


def _check_space(path: Path) -> None:
    free = shutil.disk_usage(path).free
    if free < LEAST_FREE_BYTES:
        raise DataFolderError(
            f"the disk of the data folder {path} is full: {free // 2**20} MiB are free, a node needs at least "
            f"{LEAST_FREE_BYTES // 2**20}; make room, or choose another folder with --data-dir"
        )


def _held_sentence(path: Path, pid: int) -> str:
    info = read_node_info(path / "node.json")
    who = f"node {info.name!r}, pid {pid}" if info is not None else f"pid {pid}"
    return (
        f"the data folder {path} is in use by another node ({who}); stop that one with "
        f"`actors down --data-dir {path}`, or give this one a folder of its own with --data-dir"
    )


def _sentence(path: Path, error: OSError) -> str:
    where = error.filename or path
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            problem = f"is not writable ({error.strerror}: {where})"
        case errno.ENOSPC | errno.EDQUOT:
            problem = f"cannot be written: the disk is full ({where})"
        case errno.EEXIST | errno.ENOTDIR:
            problem = f"is no folder ({where} is a file)"
        case _:
            problem = f"cannot be used ({error.strerror}: {where})"
    return f"the data folder {path} {problem}; choose another one with --data-dir"
