"""How many cores this process may really use."""

import os
import sys
from math import ceil
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = CGROUP_QUOTA) -> int:
    """Cores by affinity, or fewer where a container has a share of them only (`docker run --cpus 2`)."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    try:
        share, period = quota.read_text().split()
        return max(1, min(cores, ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return cores
