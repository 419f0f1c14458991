"""Servers that are one bus."""

from pathlib import Path

from bus.server import Server
from bus.server_file import Peers, Routes
from tests.ports import free_ports

TOKEN = "the-token-of-three-servers"


def three_servers(folder: Path) -> list[Server]:
    """None is started; their folders are `s0`, `s1`, `s2` in `folder`."""
    ports = free_ports(3)
    meeting = tuple(f"127.0.0.1:{port}" for port in ports)
    return [
        Server(
            folder / f"s{number}",
            port=0,
            peers=Peers(
                token=TOKEN,
                addresses=("127.0.0.1",),
                routes=Routes(name=f"s{number}", cluster="troupe", port=port, servers=meeting),
            ),
        )
        for number, port in enumerate(ports)
    ]
