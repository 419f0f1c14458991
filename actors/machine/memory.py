"""How much memory this node may use: the machine's, or the container's where that is less."""

from pathlib import Path

import psutil
from msgspec import Struct

_CGROUP = Path("/sys/fs/cgroup")


class Memory(Struct, frozen=True, kw_only=True):
    """Memory now, bytes; `free` is what programs could still get."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


def read_memory(cgroup: Path = _CGROUP) -> Memory:
    """Memory of the machine, within the limit of the control group that holds this process."""
    machine = psutil.virtual_memory()
    limit = _number(cgroup / "memory.max")
    if limit is None or limit >= machine.total:
        return Memory(
            total_bytes=machine.total,
            used_bytes=machine.total - machine.available,
            free_bytes=machine.available,
        )
    used = max(0, (_number(cgroup / "memory.current") or 0) - _reclaimable(cgroup))
    free = min(machine.available, max(0, limit - used))
    return Memory(total_bytes=limit, used_bytes=used, free_bytes=free)


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(cgroup: Path) -> int:
    """File pages that count as used but are given back when asked for."""
    try:
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
