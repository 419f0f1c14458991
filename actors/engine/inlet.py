"""Where a rank's ring brings it what the next one sends: to wait there asleep.

MLX asks its sockets again and again for what it is to receive, on a core that another rank of the same machine may need. So whoever
has nothing to do before that comes looks here first, and lets MLX take it once it is there.
"""

import os
import select
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schemas.group import Seat

DESCRIPTORS = Path("/dev/fd")


class Inlet:
    """One of MLX's sockets, which stays MLX's."""

    def __init__(self, descriptor: int) -> None:
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def wait(self) -> None:
        """Until there is something to take, or nobody any more who might send it: MLX will find out."""
        self._poll.poll()


def inlet_of(seat: Seat) -> Inlet | None:
    """From rank + 1, and from rank 0 to the last one; None where there is no such socket: then MLX waits in its own way."""
    if seat.backend != "ring" or seat.size == 1:
        return None
    next_, own = seat.addresses[(seat.rank + 1) % seat.size], seat.addresses[seat.rank]
    for descriptor in _sockets():
        here, there = _ends(descriptor)
        # of two ranks each is on both sides of the other, and MLX takes what comes from the one that connected
        if (here == own and there) if seat.size == 2 else there == next_:
            return Inlet(descriptor)
    return None


def _sockets() -> Iterator[int]:
    for descriptor in DESCRIPTORS.iterdir():
        with suppress(OSError):  # the list's own is closed by now
            if stat.S_ISSOCK(os.fstat(int(descriptor.name)).st_mode):
                yield int(descriptor.name)


def _ends(descriptor: int) -> tuple[str, str]:
    """`host:port` here and there; empty where there is none."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            return _named(connection.getsockname()), _named(connection.getpeername())
    except OSError:
        return "", ""


def _named(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""
