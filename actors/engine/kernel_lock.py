"""One process at a time lets MLX compile kernels: it writes them where the others of this machine look for them.

MLX builds its CPU kernels with g++ into the folder for temporary files, under their final names. Two runners that
start together on a fresh machine would load each other's half-written libraries.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import structlog

log = structlog.get_logger()


PATIENCE_S = 45.0
"""Who has held it for so long is frozen, or swamped: no model waits any longer for another; seconds."""
LOOK_S = 0.05


@contextmanager
def kernel_lock(patience_s: float = PATIENCE_S, folder: Path | None = None) -> Generator[None]:
    """Held while the block runs; the system frees it when a process dies. Where no lock is to be had, none is held.

    `folder`: where this process lets MLX write its kernels; None: the folder for temporary files.
    """
    lock = _opened(folder or Path(tempfile.gettempdir()))
    try:
        if lock is not None and not _locked(lock, patience_s):
            log.warning("kernels.unlocked", waited_s=patience_s)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _locked(lock: int, patience_s: float) -> bool:
    """Looks again and again: the system's lock knows no deadline."""
    deadline = monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                return False
            sleep(LOOK_S)
        except OSError:  # a file system without locks
            return True
        else:
            return True


def _opened(folder: Path) -> int | None:
    path = folder / f"troupe-kernels-{os.getuid()}.lock"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
