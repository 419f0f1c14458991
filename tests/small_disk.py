"""A file system of its own that is soon full: what killed test runs left of them is unmounted at the next start."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

MIB = 2**20
_MOUNT = re.compile(r"^troupe-test-(\d+) (\S+) ", re.MULTILINE)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """`folder` as a disk of `size` bytes; skips where none can be mounted, which in CI is a failure."""
    _sweep()
    folder.mkdir()
    options = f"size={size}"
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", options, f"troupe-test-{os.getpid()}", folder),
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        reason = f"cannot mount a small file system: {mounted.stderr.decode()}"
        if os.environ.get("CI"):
            raise AssertionError(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", folder), check=True)


def free(folder: Path) -> int:
    """Bytes of the disk that `folder` is on."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder: Path, leave: int = 0) -> Path:
    """A file that leaves so many bytes, none at all unless told otherwise; delete it to make room."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while (room := free(folder) - leave) > 0 or not leave:
            file.write(bytes(min(MIB, max(room, 512))))
    return ballast


def _sweep() -> None:
    for owner, folder in _MOUNT.findall(Path("/proc/mounts").read_text()):
        if not psutil.pid_exists(int(owner)):
            subprocess.run(("umount", "-l", folder), check=False, capture_output=True)
