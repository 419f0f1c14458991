"""Machines of their own: network namespaces on one bridge, each with an address, a link that can be cut or starved."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import randbelow

import psutil
import pytest

HERE = Path(__file__).parent.parent


class Machine:
    """A namespace with one address; `within` runs a command in it."""

    def __init__(self, lan: str, number: int, address: str) -> None:
        self.lan = lan
        self.name = f"{lan}m{number}"
        self.port = f"{lan}p{number}"
        """Its end of the cable, at the bridge."""
        self.address = address

    @property
    def within(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        ip("link", "set", self.port, "down")

    def mend(self) -> None:
        ip("link", "set", self.port, "up")

    def sever(self, other: "Machine") -> None:
        """What these two send to each other is lost without a word; all others reach both."""
        for one, far in ((self, other), (other, self)):
            nobody = ("lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
            ip("-n", one.name, "neigh", "replace", far.address, *nobody)

    def join(self, other: "Machine") -> None:
        """Mend what `sever` did."""
        for one, far in ((self, other), (other, self)):
            ip("-n", one.name, "neigh", "del", far.address, "dev", "eth0")

    def crash(self) -> None:
        """kill -9 of all that runs there."""
        found = subprocess.run(("ip", "netns", "pids", self.name), check=True, capture_output=True, text=True)
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    @contextmanager
    def slow(self, delay_s: float) -> Iterator[None]:
        """All that it sends and gets takes so much longer, each way."""
        far, plug = f"{self.port}f", f"{self.port}g"
        ip("link", "add", far, "type", "veth", "peer", "name", plug)
        ip("link", "set", self.port, "nomaster", "arp", "off")
        ip("link", "set", far, "up", "arp", "off")
        cable = (sys.executable, "-m", "tests.cable", self.port, far, str(delay_s))
        with subprocess.Popen(cable, stdout=subprocess.PIPE, cwd=HERE) as carrying:
            try:
                assert carrying.stdout is not None and carrying.stdout.readline()
                ip("link", "set", plug, "master", self.lan, "up")
                yield
            finally:
                carrying.kill()
                ip("link", "del", far)
                ip("link", "set", self.port, "master", self.lan, "arp", "on")

    def starve(self, rate: str) -> None:
        """Let no more than `rate` (`10mbit`) through, in either direction."""
        for command in (("tc",), (*self.within, "tc")):
            device = self.port if len(command) == 1 else "eth0"
            shape = (
                "qdisc",
                "replace",
                "dev",
                device,
                "root",
                "tbf",
                "rate",
                rate,
                "burst",
                "16kb",
                "latency",
                "300ms",
            )
            run(*command, *shape)

    def feed(self) -> None:
        """Take the limit away."""
        run("tc", "qdisc", "del", "dev", self.port, "root")
        run(*self.within, "tc", "qdisc", "del", "dev", "eth0", "root")


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)


def ip(*words: str) -> None:
    run("ip", *words)


@contextmanager
def lan(count: int) -> Iterator[list[Machine]]:
    """`count` machines on one network, where this process has an address too (.254)."""
    _sweep()
    name = f"t{os.getpid():06x}"
    net = f"10.{64 + randbelow(64)}.{randbelow(256)}"
    machines = [Machine(name, number, f"{net}.{number}") for number in range(1, count + 1)]
    _require(name)
    try:
        ip("link", "add", name, "type", "bridge", "mcast_snooping", "0")
        ip("address", "add", f"{net}.254/24", "dev", name)
        ip("link", "set", name, "up")
        for machine in machines:
            _plug_in(machine, name)
        yield machines
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "del", machine.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


def _plug_in(machine: Machine, bridge: str) -> None:
    ip("netns", "add", machine.name)
    ip("link", "add", machine.port, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    ip("link", "set", machine.port, "master", bridge, "up")
    inside = ("-n", machine.name)
    ip(*inside, "address", "add", f"{machine.address}/24", "dev", "eth0")
    ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "link", "set", "eth0", "up")


def _sweep() -> None:
    """Remove what test runs left that were killed: an address of theirs would be one of this machine's."""
    for names in ("link", "netns"):
        listed = subprocess.run(("ip", "-brief", names), check=False, capture_output=True, text=True).stdout
        for name in re.findall(r"^t[0-9a-f]{6}\w*", listed, re.MULTILINE):
            owner = int(name[1:7], 16)
            if owner == os.getpid() or not psutil.pid_exists(owner):
                subprocess.run(("ip", names, "del", name), check=False, capture_output=True)


def _require(name: str) -> None:
    """Skip where no namespaces can be made; in CI that is a failure."""
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (OSError, AssertionError) as failure:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"network namespaces need root and iproute2: {failure}")
