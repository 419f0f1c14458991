"""The soak of tests/chaos in small: one blow of each kind that hurts, with clients that stream meanwhile."""

from pathlib import Path

from tests.chaos.soak import soak

BLOWS = ("runner killed", "bus killed", "leader killed", "leader frozen")


async def test_a_small_soak(tmp_path: Path) -> None:
    story = await soak(tmp_path, seed=4, clients=4, warm_up_s=2, blows=BLOWS)
    print(story.table())
    assert not story.wronged
    assert not any(story.failures.values())
    assert [struck.blow for struck in story.blows] == [*BLOWS]
