"""A hub on this machine, a small model, and a place to bring it to."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.sources import Sources
from tests.conftest import ConnectBus
from tests.downloader.member import Join, Member
from tests.facts import joined
from tests.hub import Hub
from tests.models import make_random_llama


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return make_random_llama(tmp_path / "llama")


@pytest.fixture
def known(hub: Hub, tmp_path: Path) -> Sources:
    """The hub as a node knows it."""
    return Sources(Shelf(tmp_path / "models"), {}, HubAccess(url=hub.url))


@pytest.fixture
async def join(connect_bus: ConnectBus, hub: Hub, llama: Path, tmp_path: Path) -> AsyncIterator[Join]:
    hub.add("org/llama", llama)
    members: list[Member] = []

    async def joining(name: str, **more: Any) -> Member:
        bus = await connect_bus(node=name)
        await bus.view.start()
        await bus.log.record(joined(name))
        members.append(Member(bus, tmp_path / name, hub, **more))
        return members[-1]

    yield joining
    for member in members:
        await member.stop()
