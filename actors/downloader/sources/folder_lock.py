"""One process at a time fills a folder, whoever else shares the disk."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from actors.downloader.sources.source import Unavailable


@contextmanager
def folder_lock(path: Path) -> Generator[None]:
    """Hold the lock file `path`; raises Unavailable when another process does. A killed process holds nothing."""
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"another process on this machine is filling {path.parent.parent}") from error
        yield
