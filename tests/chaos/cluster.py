"""Three nodes with addresses that outlive them, so that a killed one can come back as the same."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec, SimulatedSpeed
from tests.nodes import NodeProcess, watching

GUIDE, SIM = ModelId("guide"), ModelId("sim")
SIM_SPEC = ModelSpec(
    id=SIM,
    source="builtin:guide",
    engine="simulated",
    replicas=2,
    simulated=SimulatedSpeed(prefill=100_000, decode=100, slots=32),
)

SETTINGS = """
silence_deadline_s = 20
wait_deadline_s = 45
step_s = 15
"""
"""Shorter than a person would want them, so that nothing takes minutes."""


class Seat:
    """A node's place: its folder and flags stay, its process comes and goes."""

    def __init__(self, name: str, folder: Path, *flags: str) -> None:
        self.name = name
        self.folder = folder / name
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.flags = ("--name", name, "--api-port", str(port), *flags)
        self.node: NodeProcess | None = None
        self.frozen = False
        self.killed_at: list[float] = []
        """Event loop times of each kill -9, so that a cut line can be told from a killed server."""

    @property
    def up(self) -> bool:
        return self.node is not None and not self.frozen

    @property
    def pid(self) -> int:
        assert self.node is not None, f"node {self.name} is down"
        return self.node.process.pid

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "troupe.toml").write_text(SETTINGS)
        self.node = await NodeProcess.start(self.folder, *self.flags)

    async def kill(self) -> None:
        assert self.node is not None, f"node {self.name} is down already"
        node, self.node = self.node, None
        self.killed_at.append(asyncio.get_running_loop().time())
        await node.kill()

    async def freeze(self, seconds: float) -> None:
        self.frozen = True
        await frozen(self.pid, seconds)
        self.frozen = False

    def require_alive(self) -> None:
        """A node never exits by itself."""
        if self.node is not None and self.node.process.returncode is not None:
            raise AssertionError(f"node {self.name} exited by itself:\n{self.node.journal[-4000:]}")


class Cluster:
    """`a` has the bus, `b` is a second master, `c` never leads and is never killed: what leaks shows there."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        nats = f"nats://127.0.0.1:{port}"
        self.a = Seat("a", folder, "--nats-port", str(port))
        self.b = Seat("b", folder, "--nats", nats, "--model", "none")
        self.c = Seat("c", folder, "--nats", nats, "--model", "none", "--no-master")
        self.seats = (self.a, self.b, self.c)

    def leader(self, bus: Bus) -> Seat | None:
        leader = bus.view.state.leader
        for seat in self.seats:
            if leader is not None and seat.node is not None and seat.node.node == leader.node:
                return seat
        return None

    def bus_pid(self) -> int | None:
        """The nats-server's, when it runs."""
        for process in processes_with(str(self.a.folder / "nats" / "nats.conf")):
            return process.pid
        return None

    def runners(self) -> list[psutil.Process]:
        """The runner processes that belong to nodes which are up."""
        found: list[psutil.Process] = []
        for seat in self.seats:
            if seat.node is not None:
                found += [psutil.Process(pid) for pid in seat.node.runner_pids()]
        return found


@asynccontextmanager
async def playing(folder: Path) -> AsyncIterator[tuple[Cluster, Bus]]:
    """The cluster with both models ready, and a connection of the test's own to its bus."""
    cluster = Cluster(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_clear_away, cluster)
        for seat in cluster.seats:
            await seat.start()
        assert cluster.a.node is not None
        bus = await stack.enter_async_context(watching(cluster.a.node))
        assert isinstance(await command(bus, LoadModel(spec=SIM_SPEC)), Done)
        await bus.view.until(lambda state: len(ready(bus)) == 3, timeout_s=120)
        yield cluster, bus


def ready(bus: Bus) -> list[str]:
    return [instance.id for instance in bus.view.state.instances.values() if instance.status == "ready"]


async def _clear_away(cluster: Cluster) -> None:
    if (pid := cluster.bus_pid()) is not None:
        os.kill(pid, signal.SIGCONT)
    for seat in reversed(cluster.seats):
        if seat.node is not None and seat.node.process.returncode is None:
            await seat.node.stop()
    if (pid := cluster.bus_pid()) is not None:
        os.kill(pid, signal.SIGKILL)


async def frozen(pid: int, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while; the process may be gone by then."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def processes_with(argument: str) -> list[psutil.Process]:
    """Living processes that have `argument` on their command line."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if argument in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]
