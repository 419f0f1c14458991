"""Nodes on one bus, each a process with a disk of its own, and one hub that counts every byte that leaves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.bus import Bus
from schemas.ids import ModelId
from schemas.manifest import MIB
from schemas.state import Download
from tests.cli.command import Ran, actors
from tests.hub import Hub
from tests.models import make_random_llama
from tests.nodes import NodeProcess, StartNode

MODEL = "org/llama"
WEIGHTS = "model.safetensors"
NAMES = "abcd"


class Fleet:
    """The nodes; `a` has the bus."""

    def __init__(self, start: StartNode, hub: Hub, folder: Path, llama: Path, bytes_s: int) -> None:
        self._start = start
        self.hub = hub
        self.folder = folder
        self.llama = llama
        self.nodes: dict[str, NodeProcess] = {}
        self.settings = f'hub_url = "{hub.url}"\ndownload_bytes_s = {bytes_s}\n'

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.llama.iterdir())

    async def start(self, name: str, *flags: str) -> NodeProcess:
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "troupe.toml").write_text(self.settings)
        first = self.nodes.get(NAMES[0])
        onto = ("--nats", first.info.nats_url) if first is not None and name != NAMES[0] else ()
        self.nodes[name] = await self._start(name, "--model", "none", *(flags or ("--no-api",)), *onto)
        return self.nodes[name]

    async def actors(self, command: str, *arguments: str) -> Ran:
        return await actors(command, *arguments, "--data-dir", str(self.nodes[NAMES[0]].folder))

    async def pull(self, *flags: str) -> Ran:
        ran = await self.actors("pull", MODEL, *flags, "--json")
        assert ran.code == 0, ran.err
        return ran

    def weights(self, name: str) -> Path:
        return self.nodes[name].folder / "models" / "org--llama@main" / WEIGHTS

    def is_same(self, name: str) -> bool:
        there = self.weights(name).parent
        return all((there / path.name).read_bytes() == path.read_bytes() for path in self.llama.iterdir())

    def download(self, bus: Bus, name: str) -> Download | None:
        return bus.view.state.download(self.nodes[name].node, ModelId(MODEL))

    async def until_here(self, bus: Bus, name: str, count: int) -> None:
        """So many bytes are on its disk."""
        await bus.view.until(
            lambda _: (each := self.download(bus, name)) and each.bytes_done >= count, timeout_s=120
        )

    async def until_told(self, bus: Bus, name: str, status: str = "complete") -> Download:
        await bus.view.until(
            lambda _: (each := self.download(bus, name)) and each.status == status, timeout_s=120
        )
        found = self.download(bus, name)
        assert found is not None
        return found


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """64 MB, in pieces of 1 MiB."""
    return make_random_llama(tmp_path / "llama", hidden=256, layers=16)


@pytest.fixture
def hub(llama: Path) -> Iterator[Hub]:
    with Hub() as running:
        running.add(MODEL, llama)
        yield running


@pytest.fixture
async def fleet(start_node: StartNode, hub: Hub, llama: Path, tmp_path: Path) -> Fleet:
    """Four nodes, none of which has anything yet."""
    fleet = Fleet(start_node, hub, tmp_path, llama, bytes_s=3 * MIB)
    for name in NAMES:
        await fleet.start(name)
    return fleet
