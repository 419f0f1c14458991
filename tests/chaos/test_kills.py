"""No stream ever breaks: readers under kills, each word compared. `TROUPE_KILLS`, `TROUPE_KILLS_SEED`: how many, which."""

import os
from pathlib import Path

import pytest

from bus.server import Server
from tests.chaos.kills import Kills, killing
from tests.chaos.readers import Readers
from tests.chaos.resumes import Resumes


@pytest.mark.chaos
async def test_a_thousand_kills(tmp_path: Path, nats_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = int(os.environ.get("TROUPE_KILLS", "1000"))
    seed = int(os.environ.get("TROUPE_KILLS_SEED", "20261121"))
    for name in ("TROUPE_KILLS", "TROUPE_KILLS_SEED"):
        monkeypatch.delenv(name, raising=False)  # a node knows no such settings
    readers, dealt, resumes = await killing(tmp_path, nats_server, seed, kills, readers=8, tokens=200)
    tell(seed, readers, dealt, resumes)
    assert not readers.broken


@pytest.mark.timeout(300)
async def test_a_few_kills(tmp_path: Path, nats_server: Server) -> None:
    readers, dealt, resumes = await killing(tmp_path, nats_server, seed=3, kills=6, readers=4, tokens=60)
    tell(3, readers, dealt, resumes)
    assert not readers.broken
    assert any(resumes.waits.values()), "no stream was hit: the test shows nothing"


def tell(seed: int, readers: Readers, dealt: Kills, resumes: Resumes) -> None:
    print(f"\nseed {seed}: {readers.read} streams read, {len(readers.broken)} broken, {dict(dealt.dealt)}")
    print(resumes.table())
    for broken in readers.broken:
        print(f"  reader {broken.reader}: {broken.why}")
