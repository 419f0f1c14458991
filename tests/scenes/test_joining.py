"""A node that joins late is ready as fast as one that joined early: the snapshot counts, not the log."""

from pathlib import Path
from statistics import median

import pytest

from tests.bench.history import join_times
from tests.nodes import StartNode


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_joining_after_100_000_events_is_as_fast_as_after_100(
    start_node: StartNode, tmp_path: Path
) -> None:
    took = await join_times(start_node, tmp_path, (100, 100_000), joins=15)
    early, late = median(took[100]), median(took[100_000])
    assert late < 3 * early, took  # with the log read it would be hundreds of times
