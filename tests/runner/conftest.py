"""Runners of a random llama and of the simulated engine, over a real bus."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from actors.runner.job import RunnerJob
from bus.bus import Bus
from bus.server import Server
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import EngineName, ModelSpec, SimulatedSpeed
from tests.models import make_random_llama
from tests.runner.client import Client
from tests.runner.process import RunningProcess

StartRunner = Callable[..., Awaitable[RunningProcess]]


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def a_job(nats_server: Server, llama: Path) -> Callable[..., RunnerJob]:
    """`a_job(engine="simulated", decode=50)`: of instance i1, attempt 3."""

    def make(
        engine: EngineName = "mlx",
        path: Path | None = None,
        slots: int = 64,
        decode: float = 1e6,
        cache_tokens: int = 0,
    ) -> RunnerJob:
        speed = SimulatedSpeed(prefill=1e9, decode=decode, slots=slots, cache_tokens=cache_tokens)
        return RunnerJob(
            nats_url=nats_server.url,
            cluster="troupe",
            node=NodeId("n1"),
            instance=InstanceId("i1"),
            attempt=3,
            spec=ModelSpec(id=ModelId("m"), source="x", engine=engine, simulated=speed),
            path=str(path or llama),
            pulse_s=0.1,
        )

    return make


@pytest.fixture
async def start_runner(a_job: Callable[..., RunnerJob]) -> AsyncIterator[StartRunner]:
    """Starts a runner's process with a job; all are killed at the end."""
    async with AsyncExitStack() as stack:

        async def start(**values: object) -> RunningProcess:
            process = await RunningProcess.start(a_job(**values))
            stack.push_async_callback(process.kill)
            return process

        yield start


@pytest.fixture
async def client(bus: Bus) -> AsyncIterator[Client]:
    """Offers tasks to instance i1, and collects what comes."""
    client = Client(bus)
    async with bus.listening("troupe.out.a1.*", client.hear), bus.listening("troupe.own.a1", lambda *_: None):
        yield client
