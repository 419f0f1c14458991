"""A program for tests: a cable that takes its time. What enters at one interface leaves the other one after a delay.

`netem`, which does this in the kernel, is not in every kernel.
"""

import os
import select
import socket
import sys
from collections import deque
from contextlib import suppress
from time import monotonic

SOL_PACKET, VNET_HEADER, IGNORE_OUTGOING, ALL = 263, 15, 23, 3
LARGEST = 1 << 17
AHEAD = 50
"""Its priority in real time, before those of ranks (`tests/bench/pinned.py`): a cable waits for no core."""


def end(interface: str) -> socket.socket:
    """Takes and gives frames as the kernel has them: large ones are cut, and their sums made, where they arrive."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(SOL_PACKET, VNET_HEADER, 1)
    raw.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    raw.bind((interface, ALL))
    return raw


def hurry() -> None:
    with suppress(OSError):  # where that is forbidden it is a program like others
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(AHEAD))


def carry(one: socket.socket, other: socket.socket, delay_s: float) -> None:
    to = {one: other, other: one}
    under_way = deque[tuple[float, socket.socket, bytes]]()
    while True:
        left_s = max(0.0, under_way[0][0] - monotonic()) if under_way else None
        for arrived in select.select([one, other], [], [], left_s)[0]:
            with suppress(OSError):  # that end is down
                under_way.append((monotonic() + delay_s, to[arrived], arrived.recv(LARGEST)))
        while under_way and under_way[0][0] <= monotonic():
            _, leaving, frame = under_way.popleft()
            with suppress(OSError):
                leaving.send(frame)


if __name__ == "__main__":
    one, other = (end(interface) for interface in sys.argv[1:3])
    hurry()
    print("ready", flush=True)
    carry(one, other, float(sys.argv[3]))
