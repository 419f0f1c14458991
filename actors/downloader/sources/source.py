"""The port that the downloader and each place of models meet at."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct


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
        self.bytes_outside = 0
        """Those of them that came from the model's place, and not from what was here, nor from other nodes."""
        self.bytes_peers = 0
        self.known = asyncio.Event()
        """Set once the number of bytes is known."""

    def begin(self, done: int, total: int) -> None:
        self.bytes_done, self.bytes_total = done, total
        self.known.set()

    def add(self, count: int) -> None:
        """`count` more bytes; negative when what was there turned out to be of no use."""
        self.bytes_done += count


Need = tuple[tuple[int, int], ...] | None
"""Layers of which a node needs the weights: the first, and the one after the last, of each run; None: all."""


OnReadable = Callable[[Path], Awaitable[None]]
"""Is told of a folder in which all is there but the weights, of which only the headers are."""


class Fetched(Struct, frozen=True):
    """A folder of this machine in which the files are, with the weights of these layers."""

    folder: Path
    layers: Need = None
    revision: str = ""
    """What the source held; empty: it is always the same."""


class Source(Protocol):
    """One model's files in one place."""

    async def fetch(
        self,
        progress: Progress,
        need: Need = None,
        *,
        verify: bool = False,
        on_readable: OnReadable | None = None,
    ) -> Fetched:
        """Where the files are, once all that are needed are there; with `verify` every byte of them is read.

        `on_readable` is awaited before the weights are fetched, if they are.

        May be cancelled at any time, and goes on where it was when it is called again. Raises Unavailable and
        Unobtainable.
        """
        ...

    async def newest(self) -> str:
        """The revision that the place holds now; empty: it is always the same.

        Raises Unavailable and Unobtainable.
        """
        ...
