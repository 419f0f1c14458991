"""What models leave free on a disk: the bus's store may be on it, and a bus that cannot write is no bus."""

import errno
import os
import shutil
from pathlib import Path

SPARE_BYTES = 64 * 1024 * 1024


def room(folder: Path, given_back: int = 0) -> int:
    """Bytes that models may still take of the disk that `folder` is on, once it has so many back."""
    return max(shutil.disk_usage(folder).free + given_back - SPARE_BYTES, 0)


def require_room(folder: Path, count: int) -> None:
    """Raises what a full disk raises, a little earlier."""
    if room(folder) < count:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


def lacks_room(source: str, folder: Path, missing: int, free: int) -> str:
    """The sentence for a model that needs `missing` more bytes, where models may take `free`."""
    return (
        f"{source} does not fit: it needs {missing:,} more bytes in {folder}, where {free:,} are free besides "
        f"{SPARE_BYTES:,} that stay free for the bus; make room, then load or pull it again"
    )
