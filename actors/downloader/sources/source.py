"""The port that the downloader and each place of models meet at."""

import asyncio
from pathlib import Path
from typing import Protocol


class Unavailable(Exception):
    """Something did not work that may work later; `retry_after_s` is when, if the other side said so."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Unobtainable(Exception):
    """The files cannot be had until a person changes something; the message says what."""


class Vanished(Unobtainable):
    """What was asked for is not there: perhaps not any more."""


class Progress:
    """How many bytes of a model are here; counted by a source, read by whoever reports."""

    def __init__(self) -> None:
        self.bytes_done = 0
        self.bytes_total = 0
        self.known = asyncio.Event()
        """Set once the number of bytes is known."""

    def begin(self, done: int, total: int) -> None:
        self.bytes_done, self.bytes_total = done, total
        self.known.set()

    def add(self, count: int) -> None:
        """`count` more bytes; negative when what was there turned out to be of no use."""
        self.bytes_done += count


class Source(Protocol):
    """One model's files in one place."""

    async def fetch(self, progress: Progress) -> Path:
        """The folder on this machine that holds the files, once they are all there.

        May be cancelled at any time, and goes on where it was when it is called again. Raises Unavailable and
        Unobtainable.
        """
        ...
