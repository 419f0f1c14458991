"""A hub on this machine, a small model, and a place to bring it to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.downloader.sources.hub import HubAccess
from actors.downloader.sources.shelf import Shelf
from actors.downloader.sources.sources import Sources
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
