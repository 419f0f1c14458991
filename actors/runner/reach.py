"""Where other ranks reach this process, and whether they live on the same machine."""

import os
import socket
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from actors.machine.addresses import LOOPBACK, is_loopback, own_addresses
from bus.address import BusAddress

BOOT, NETWORK = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/net")


def own_host(nats_url: str) -> str:
    """The address that goes towards the bus; where the bus is on this machine, the one of the default route."""
    at = urlsplit(BusAddress.read(nats_url).url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((at.hostname or LOOPBACK, at.port or 4222))  # nothing is sent
        except OSError:
            return own_addresses()[0]
        host = str(probe.getsockname()[0])
    return own_addresses()[0] if is_loopback(host) else host


def own_machine() -> str:
    """Equal for processes that share a loopback interface."""
    try:
        return f"{BOOT.read_text().strip()}/{os.stat(NETWORK).st_ino}"  # noqa: PTH116 - a link to no file
    except OSError:
        return f"{socket.gethostname()}/{uuid.getnode()}"


def free_port(host: str) -> int:
    """That nobody has now; should somebody take it meanwhile, the next attempt takes another one."""
    with socket.create_server((host, 0)) as taken:
        return int(taken.getsockname()[1])
