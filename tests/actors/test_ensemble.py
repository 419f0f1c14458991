"""A node's actors: started in order, stopped in the opposite order, never missing."""

import asyncio

from actors.ensemble import Ensemble


async def test_they_stop_in_the_opposite_order() -> None:
    ensemble, ended = Ensemble(), list[str]()

    async def live(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    for name in ("bus", "worker", "api"):
        ensemble.start(name, lambda name=name: live(name))
    await asyncio.sleep(0)
    await ensemble.close()
    assert ended == ["api", "worker", "bus"]


async def test_one_that_ends_by_itself_is_started_afresh() -> None:
    ensemble, again = Ensemble(), asyncio.Event()
    lives = 0

    async def live() -> None:
        nonlocal lives
        lives += 1
        if lives == 2:
            again.set()
            await asyncio.Event().wait()

    ensemble.start("worker", live)
    async with asyncio.timeout(10):
        await again.wait()
    await ensemble.close()


async def test_one_that_always_ends_by_itself_ends_the_node_with_a_sentence() -> None:
    ensemble = Ensemble()
    ensemble.start("worker", lambda: asyncio.sleep(0))
    async with asyncio.timeout(30):
        assert (
            "worker failed 6 times within 60 s, at last with: it ended by itself"
            in await ensemble.until_over()
        )
    await ensemble.close()
