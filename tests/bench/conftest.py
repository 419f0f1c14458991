"""One table for all benches of a run, and nodes whose environment does not slow the BLAS."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.bench.table import Table
from tests.nodes import StartNode, nodes_in


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    table = Table()
    yield table
    table.finish()


@pytest.fixture(autouse=True, scope="session")
def own_kernels() -> None:
    """A BLAS that is told to use an older processor's kernels is slower, for us and for those we compare with."""
    os.environ.pop("OPENBLAS_CORETYPE", None)


@pytest.fixture
async def start_node(tmp_path: Path) -> AsyncIterator[StartNode]:
    async with nodes_in(tmp_path) as start:
        yield start
