"""What is told once a second, heard once: one sign of life of each who is expected, as far as they come in time."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

import msgspec

from bus.bus import Bus
from schemas.node import Beat, Pulse
from schemas.unreadable import UNREADABLE

HEAR_S = 1.3
"""Signs come once a second; who is not heard in this time has nothing to show."""
Key = TypeVar("Key", bound=str)
Sign = TypeVar("Sign", Beat, Pulse)


async def hear(
    bus: Bus, subject: str, kind: type[Sign], whose: Callable[[Sign], Key | None], expected: Collection[Key]
) -> dict[Key, Sign]:
    """By whom they are of; `whose` is None for one that does not count."""
    if not expected:
        return {}
    heard: dict[Key, Sign] = {}
    missing, complete = set(expected), asyncio.Event()

    def note(payload: bytes, _: str) -> None:
        try:
            sign = msgspec.json.decode(payload, type=kind)
        except UNREADABLE:
            return  # a newer version's, or nobody's: there is nothing to show
        if (key := whose(sign)) is not None:
            heard[key] = sign
            missing.discard(key)
        if not missing:
            complete.set()

    async with bus.listening(subject, note):
        with suppress(TimeoutError):
            await asyncio.wait_for(complete.wait(), HEAR_S)
    return heard
