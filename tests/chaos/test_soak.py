"""Ten minutes of random kills: `make chaos`, `TROUPE_SOAK_S` and `TROUPE_SOAK_SEED` say how long and which."""

import os
from pathlib import Path

import pytest

from tests.chaos.soak import soak

MOST_GROWTH = 1.25
"""Of the memory of a node that lived through it all."""


@pytest.mark.chaos
async def test_a_soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = float(os.environ.get("TROUPE_SOAK_S", "600"))
    seed = int(os.environ.get("TROUPE_SOAK_SEED", "20261120"))
    for name in ("TROUPE_SOAK_S", "TROUPE_SOAK_SEED"):
        monkeypatch.delenv(name, raising=False)  # a node knows no such settings
    print(f"\nsoak of {seconds:g} s, seed {seed}, in {tmp_path}", flush=True)
    story = await soak(tmp_path, seed, clients=8, warm_up_s=min(60.0, seconds / 4), seconds=seconds)
    print(story.table())
    assert not story.wronged
    assert story.after.resident_mib <= MOST_GROWTH * story.before.resident_mib
