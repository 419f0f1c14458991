"""Bits that turn over on a disk without a trace: of a model that is loaded, of one that lies there, of one that others fetch."""

import os
import random
from pathlib import Path

import pytest

from schemas.ids import ModelId
from schemas.manifest import MIB
from schemas.model import ModelSpec
from tests.downloader.test_peers import flip
from tests.fleet import MODEL, Fleet, hub, llama
from tests.hub import Hub
from tests.nodes import StartNode, watching
from tests.scenes.test_delivery import said as answer_of
from tests.scenes.test_runner_death import client_of, load

__all__ = ["hub", "llama"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def rot(file: Path, at: int) -> None:
    """One bit, as a disk turns it over: the file has the times that it had."""
    before = file.stat()
    flip(file, at)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_rot_is_found_and_mended(start_node: StartNode, hub: Hub, llama: Path, tmp_path: Path) -> None:
    fleet = Fleet(start_node, hub, tmp_path, llama, bytes_s=0)
    loaded = await fleet.start("a", "--log-level", "info")
    for name in "bcd":
        await fleet.start(name)
    spec = ModelSpec(id=ModelId(MODEL), source=f"hf:{MODEL}", node=loaded.node)
    async with watching(loaded) as bus, client_of(loaded) as client:
        await load(bus, spec)
        said = await answer_of(client, spec.id)
        await fleet.pull("--node", "b")
        runners = loaded.runner_pids()
        chance, served = random.Random(5), hub.served.total()

        for name in "ab":  # one that is loaded, and one that only lies there
            rot(fleet.weights(name), chance.randrange(2 * MIB, 60 * MIB))
            assert not fleet.is_same(name)
            await fleet.pull("--node", name, "--verify")
            assert fleet.is_same(name)
            assert "download.damaged" in fleet.nodes[name].journal
        assert hub.served.total() == served, "they have mended each other"
        assert loaded.runner_pids() == runners
        assert await answer_of(client, spec.id) == said

        rot(fleet.weights("a"), 5 * MIB)
        rot(fleet.weights("b"), 5 * MIB)
        for name in "cd":  # those that fetch what is damaged
            await fleet.pull("--node", name)
            assert fleet.is_same(name)
        assert hub.served.total() - served <= 4 * MIB, "the one piece that nobody had whole"
        await fleet.pull("--all", "--verify")
        assert all(fleet.is_same(name) for name in "abcd")
        assert hub.served.total() - served <= 4 * MIB
