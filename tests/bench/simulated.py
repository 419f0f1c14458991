"""A cluster whose runner computes nothing: API, runner, bus and clients are processes of their own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bus.bus import Bus
from bus.commands import command
from bus.server import Server
from schemas.commands import Done, LoadModel, UnloadModel
from schemas.ids import ModelId
from schemas.model import ModelSpec, SimulatedSpeed
from tests.bench.crowd import Job, Result
from tests.bench.processes import CpuMeter, crowd
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode, watching

QUIET = ("--model", "none", "--log-level", "info")
SLOTS = 4096


class SimulatedCluster:
    """One node that answers clients, one that leads and carries the model."""

    def __init__(self, bus: Bus, server: Server, door: NodeProcess, core: NodeProcess, folder: Path) -> None:
        self.bus = bus
        self.server = server
        self.door = door
        self.core = core
        self._folder = folder

    @asynccontextmanager
    async def model(self, decode: float, slots: int = SLOTS) -> AsyncGenerator[str]:
        """A simulated model that writes `decode` tokens a second for each of up to `slots` requests."""
        speed = SimulatedSpeed(prefill=1e7, decode=decode, slots=slots)
        model = ModelId(f"simulated-{decode:g}")
        spec = ModelSpec(
            id=model, source=str(self._folder), node=self.core.node, engine="simulated", simulated=speed
        )
        assert isinstance(await command(self.bus, LoadModel(spec=spec)), Done)
        await self.bus.view.until(lambda s: any(i.status == "ready" for i in s.instances_of(model)), 60)
        yield model
        await command(self.bus, UnloadModel(model=model))
        await self.bus.view.until(lambda s: not s.instances_of(model), 60)

    async def load(self, model: str, **job: Any) -> tuple[Result, dict[str, float]]:
        """The clients' account, and each process's CPU seconds."""
        host, port = self.door.info.api_url.removeprefix("http://").split(":")
        (runner,) = self.core.runner_pids()
        meter = CpuMeter({"api": self.door.process.pid, "runner": runner, "nats": self.server.pid})
        result = await crowd(Job(host=host, port=int(port), model=model, **job))
        return result, {**meter.read(), "client": result.cpu_s}


@asynccontextmanager
async def simulated_cluster(start_node: StartNode, server: Server) -> AsyncGenerator[SimulatedCluster]:
    url = ("--nats", server.url, *QUIET)
    core = await start_node("core", *url, "--no-api")
    door = await start_node("door", *url, "--api-only")
    folder = make_random_llama(core.folder / "tokenizer", hidden=32, layers=1, context=100_000)
    async with watching(door) as bus:
        yield SimulatedCluster(bus, server, door, core, folder)
