"""The engine's life as a rank of a group: when another rank breaks the group, that one is to blame."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import get_args

from schemas.model import Backend

GRACE_S = 2.0
"""In which the rank that broke the group is reported, and this one told to leave; seconds."""
SIGNS = tuple(f"[{backend}]" for backend in get_args(Backend))
"""How MLX begins what it says of connections between ranks."""


class GroupBroken(Exception):
    """The connections to other ranks are lost, and cannot be made again in this process."""


async def in_group(life: Awaitable[None], on_broken: Callable[[], None] = lambda: None) -> None:
    """Raises what ended the engine; `GroupBroken` not at once: MLX tells of a dead neighbour within milliseconds, and the
    neighbour's own worker knows better why."""
    try:
        await life
    except RuntimeError as error:
        if not str(error).startswith(SIGNS):
            raise
        on_broken()
        await asyncio.sleep(GRACE_S)
        raise GroupBroken(f"the other ranks were lost: {error}") from error
