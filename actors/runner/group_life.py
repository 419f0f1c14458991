"""The engine's life as a rank of a group: when another rank breaks the group, that one is to blame."""

import asyncio
from collections.abc import Awaitable, Callable

GRACE_S = 2.0
"""In which the rank that broke the group is reported, and this one told to leave; seconds."""


async def in_group(life: Awaitable[None], on_broken: Callable[[], None] = lambda: None) -> None:
    """Raises what ended the engine, later: MLX tells of a dead neighbour within milliseconds, before its worker does."""
    try:
        await life
    except RuntimeError:
        on_broken()
        await asyncio.sleep(GRACE_S)
        raise
