"""One process at a time lets MLX compile kernels: it writes them where the others of this machine look for them.

MLX builds its CPU kernels with g++ into the folder for temporary files, under their final names. Two runners that
start together on a fresh machine would load each other's half-written libraries.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def kernel_lock() -> Generator[None]:
    """Held while the block runs; the system frees it when a process dies. Where no lock is to be had, none is held."""
    lock = _opened()
    try:
        if lock is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _opened() -> int | None:
    path = Path(tempfile.gettempdir()) / f"troupe-kernels-{os.getuid()}.lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
