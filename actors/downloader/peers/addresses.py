"""Where other machines may reach this one."""

import socket
from ipaddress import ip_address

import psutil

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - it asks for a token
_LINK_LOCAL = ("169.254.", "fe80:")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def urls(host: str, port: int) -> tuple[str, ...]:
    """What a server that listens on `host` is asked by, the likeliest first."""
    hosts = [*_of_this_machine(), LOOPBACK] if host == EVERYWHERE else [host]
    return tuple(f"http://{f'[{each}]' if ':' in each else each}:{port}" for each in hosts)


def _of_this_machine() -> list[str]:
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
        and not is_loopback(address.address)
        and not address.address.startswith(_LINK_LOCAL)
    ]
