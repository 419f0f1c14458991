"""Real nodes as real processes: `actors up` with a data folder of its own, on free ports."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from actors.machine.node_info import NodeInfo
from actors.runner.job import SPARE
from bus.bus import Bus
from schemas.ids import NodeId

READY_S = 60.0
HERE = Path(__file__).parent.parent


class NodeProcess:
    """One `actors up`; what it logs lies in `up.log` of its data folder."""

    def __init__(self, process: Process, info: NodeInfo, folder: Path) -> None:
        self.process = process
        self.info = info
        self.folder = folder

    @classmethod
    async def start(
        cls,
        folder: Path,
        *flags: str,
        program: str = "actors.cli",
        within: tuple[str, ...] = (),
        source: Path = HERE,
        ready_s: float = READY_S,
    ) -> "NodeProcess":
        """Returns when the node says that it is ready; `program` has the command line's own arguments.

        `within`: a command that runs the node (`ip netns exec NAME`); `source`: the tree that its code is from.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "up.log").open("ab") as journal:
            process = await asyncio.create_subprocess_exec(
                *(*within, sys.executable, "-m", program, "up", "--json", "--data-dir", str(folder)),
                *("--api-port", "0", "--nats-port", "0", "--log-level", "debug"),
                *flags,
                stdout=PIPE,
                stderr=journal,
                stdin=asyncio.subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(source)},
            )
        assert process.stdout is not None
        async with asyncio.timeout(ready_s):
            line = await process.stdout.readline()
        if not line:
            await process.wait()
            raise AssertionError(f"the node did not start:\n{(folder / 'up.log').read_text()[-4000:]}")
        return cls(process, msgspec.json.decode(line, type=NodeInfo), folder)

    @property
    def node(self) -> NodeId:
        return self.info.node_id

    @property
    def openai_url(self) -> str:
        return f"{self.info.api_url}/v1"

    @property
    def journal(self) -> str:
        return (self.folder / "up.log").read_text()

    def bus_pid(self) -> int:
        """The pid of the nats-server that this node started."""
        return msgspec.json.decode((self.folder / "nats" / "server.json").read_bytes())["pid"]

    def runner_pids(self) -> list[int]:
        found: list[int] = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it ends at this moment
                if "actors.runner" in child.cmdline() and not is_spare(child):
                    found.append(child.pid)
        return found

    @property
    def has_spare(self) -> bool:
        """One has all that it needs, and was not taken."""
        return self.journal.count("spare.waits") > self.journal.count("spare.taken")

    def spare_pids(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children() if is_spare(child)]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """kill -9 of the node's process alone, as a crash would be."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """A clean stop; returns the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            async with asyncio.timeout(30):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"the node did not stop:\n{self.journal[-4000:]}") from None

    def kill_bus(self) -> None:
        with suppress(OSError, ProcessLookupError):
            os.kill(self.bus_pid(), signal.SIGKILL)


def is_spare(process: psutil.Process) -> bool:
    """It was started ahead of its job, and has none yet (as Linux tells them apart)."""
    return SPARE in process.cmdline() and process.name() != "troupe-runner"


StartNode = Callable[..., Awaitable[NodeProcess]]


@asynccontextmanager
async def nodes_in(folder: Path) -> AsyncIterator[StartNode]:
    """Starts nodes in folders beneath `folder`; stops all of them, killed ones' leftovers too."""
    started: list[NodeProcess] = []

    async def start(name: str = "a", *flags: str, **how: Any) -> NodeProcess:
        node = await NodeProcess.start(folder / name, "--name", name, *flags, **how)
        started.append(node)
        return node

    try:
        yield start
    finally:
        for node in reversed(started):
            if node.process.returncode is None:
                await node.stop()
            node.kill_bus()


@asynccontextmanager
async def watching(node: NodeProcess) -> AsyncIterator[Bus]:
    """A connection of the test's own to the bus of a node."""
    bus = await Bus.connect(node.info.nats_url, node.info.cluster, "test", NodeId("test"))
    try:
        await bus.view.start()
        yield bus
    finally:
        await bus.close()
