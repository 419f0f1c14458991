"""The addresses under which other machines reach this one."""

import ipaddress
import socket

import psutil

INNER = ("docker", "br-", "veth", "virbr", "cni", "flannel", "podman")
"""Interfaces that lead to containers and virtual machines of this machine, and nowhere else."""
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104  # whoever listens there asks for a secret


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses of interfaces that are up, the one of the default route first; loopback when there is no other."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        address.address
        for name, addresses in sorted(psutil.net_if_addrs().items())
        if name in up and not name.startswith(INNER)
        for address in addresses
        if address.family == socket.AF_INET and not is_loopback(address.address)
    ]
    return tuple(sorted(found, key=lambda address: address != _default())) or (LOOPBACK,)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def urls(host: str, port: int) -> tuple[str, ...]:
    """What a server that listens on `host` is asked by, the likeliest first."""
    hosts = dict.fromkeys((*own_addresses(), LOOPBACK)) if host == EVERYWHERE else (host,)
    return tuple(f"http://{f'[{each}]' if ':' in each else each}:{port}" for each in hosts)


def _default() -> str:
    """The address that packets to the outside carry; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: nobody is there
        except OSError:
            return ""
        return str(probe.getsockname()[0])
