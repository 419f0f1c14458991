"""A hub on this machine, a small model, and a place to bring it to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.downloader.sources.hub import Hub as KnownHub
from actors.downloader.sources.hub import HubAccess
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
def known(hub: Hub, tmp_path: Path) -> KnownHub:
    """The hub as a node knows it."""
    return KnownHub(HubAccess(url=hub.url), tmp_path / "models")
