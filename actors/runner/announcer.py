"""Tells the APIs which prefixes its engine keeps: the changes soon, all of it now and then, for those who missed some."""

import asyncio
from contextlib import suppress

import msgspec

from actors.engine.port import PrefixChanges
from bus.bus import Bus
from bus.errors import BusAway
from schemas.ids import InstanceId
from schemas.prefix import MOST_DIGESTS, Digest, Prefixes, join

WHOLE_EVERY_S = 5.0
PAUSE_S = 0.1
"""Between two messages; seconds."""


class Announcer:
    """Numbers its messages; one that a lost bus cannot take is a gap like any other."""

    def __init__(
        self, bus: Bus, instance: InstanceId, attempt: int, whole_every_s: float = WHOLE_EVERY_S
    ) -> None:
        self._bus = bus
        self._instance = instance
        self._attempt = attempt
        self._whole_every_s = whole_every_s
        self._number = 0
        self._kept: dict[Digest, None] = {}
        """All that the engine keeps, the oldest first."""
        self._told: set[Digest] = set()
        """What was announced of it."""
        self._news = asyncio.Event()

    def note(self, changes: PrefixChanges) -> None:
        for digest in changes.removed:
            self._kept.pop(digest, None)
        self._kept.update(dict.fromkeys(changes.added))
        self._news.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if whole := loop.time() >= due:
                due = loop.time() + self._whole_every_s
            self._news.clear()
            await self._bus.until_connected()
            await self._tell(whole)
            await asyncio.sleep(PAUSE_S)
            await self._until_news(due - loop.time())

    async def _until_news(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._news.wait()
        except TimeoutError:
            return

    async def _tell(self, whole: bool) -> None:
        """Where there are too many the oldest are told, and others as those go."""
        there = set(list(self._kept)[:MOST_DIGESTS])
        gone = b"" if whole else join(self._told - there)
        new = join(digest for digest in self._kept if digest in there and (whole or digest not in self._told))
        self._told = there
        if whole or new or gone:
            self._number += 1
            await self._send(Prefixes(self._instance, self._attempt, self._number, whole, new, gone))

    async def _send(self, prefixes: Prefixes) -> None:
        with suppress(BusAway):
            await self._bus.send_raw(
                self._bus.subjects.prefixes(self._instance), msgspec.msgpack.encode(prefixes)
            )
