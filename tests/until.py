"""Waiting for what nobody tells: other processes come and go in silence."""

import asyncio
from collections.abc import Callable

DEADLINE_S = 60.0


async def until(true: Callable[[], bool]) -> None:
    """Looks again and again; raises TimeoutError."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the pause: between two looks
