"""Ranks of one machine join on one core, in order: or else MLX's ring often takes a second more.

The last rank calls rank 0, and only then listens for the call of the rank before it; with two ranks, that is rank 0, which calls back at
once. Where it is the faster one nobody answers, and it tries again a second later. So meanwhile the others leave the core to the last.
"""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from schemas.group import Seat

THREADS = Path("/proc/self/task")


@contextmanager
def in_order(seat: Seat) -> Generator[None]:
    """While the block runs; where a system cannot do so, nothing is done."""
    if sys.platform != "linux" or seat.backend != "ring" or not seat.addresses[0].startswith("127."):
        yield
        return
    before, cores = _threads(), os.sched_getaffinity(0)
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(OSError):
        os.sched_setaffinity(0, {min(cores)})
        if seat.rank < seat.size - 1:  # one that is woken does not interrupt whoever runs
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        born = _threads() - before  # MLX's, with what this one had
        for thread in (threading.get_native_id(), *born):
            with suppress(OSError):  # it may have ended
                os.sched_setaffinity(thread, cores)
                os.sched_setscheduler(thread, policy, priority)


def _threads() -> set[int]:
    return {int(each.name) for each in THREADS.iterdir()}
