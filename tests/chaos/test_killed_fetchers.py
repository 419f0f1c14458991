"""Four nodes that bring one model to each other, and are killed at random moments: in the end it is whole everywhere.

`TROUPE_KILLS_SEED`: at which moments.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from schemas.manifest import MIB
from tests.fleet import NAMES, Fleet, hub, llama
from tests.hub import Hub
from tests.nodes import StartNode, watching

__all__ = ["hub", "llama"]  # fixtures
SEED = int(os.environ.get("TROUPE_KILLS_SEED", "20261121"))
KILLS = 8


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_what_is_killed_while_it_fetches(
    start_node: StartNode, hub: Hub, llama: Path, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    fleet = Fleet(start_node, hub, tmp_path, llama, bytes_s=MIB)
    for name in NAMES:
        await fleet.start(name)
    await fleet.pull("--all", "--no-wait")
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0, 2))
        victim = chance.choice(NAMES)
        await fleet.nodes[victim].kill()
        await fleet.start(victim)
    async with watching(fleet.nodes["a"]) as bus:
        for name in NAMES:
            await fleet.until_told(bus, name)
    print(f"seed {SEED}: {hub.served.total() - fleet.size:,} of {fleet.size:,} bytes left the hub twice")
    assert all(map(fleet.is_same, NAMES))
    await fleet.pull("--all", "--verify")
    assert all(map(fleet.is_same, NAMES))
