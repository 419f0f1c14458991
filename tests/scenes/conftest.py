"""Scenes are played by real nodes, talked to by real clients."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.nodes import StartNode, nodes_in


@pytest.fixture
async def start_node(tmp_path: Path) -> AsyncIterator[StartNode]:
    """`await start_node("a", "--no-api")`: a node, ready; all are stopped at the end."""
    async with nodes_in(tmp_path) as start:
        yield start
