"""The worker's voice, as its runner hears it on stdin: first the job, then where the runner stands, at last the end."""

import asyncio
import os
from collections.abc import Callable

import msgspec

from actors.runner.job import RunnerJob, Standing

STDIN = 0
_standing = msgspec.json.Decoder(Standing).decode


class Voice:
    """Read without a buffer, so that the end of stdin is still to be seen."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        """The worker that held stdin is gone."""
        self._heard = b""
        self._tell: Callable[[Standing], None] | None = None
        self._standing: Standing | None = None

    def job(self) -> RunnerJob:
        """Waits for the first line; raises EOFError."""
        while b"\n" not in self._heard:
            block = os.read(STDIN, 65_536)
            if not block:
                raise EOFError("stdin ended before the runner was told its job")
            self._heard += block
        line, _, self._heard = self._heard.partition(b"\n")
        return msgspec.json.decode(line, type=RunnerJob)

    def listen(self) -> None:
        """From here on, in the running loop."""
        self._take(b"")
        asyncio.get_running_loop().add_reader(STDIN, self._read)

    def to(self, tell: Callable[[Standing], None]) -> None:
        """Whom to tell where it stands, and at once what was said of it already."""
        self._tell = tell
        if self._standing is not None:
            tell(self._standing)

    def _read(self) -> None:
        block = os.read(STDIN, 4096)
        if not block:
            asyncio.get_running_loop().remove_reader(STDIN)
            self.ended.set()
        self._take(block)

    def _take(self, block: bytes) -> None:
        *lines, self._heard = (self._heard + block).split(b"\n")
        for line in lines:
            self._standing = _standing(line)
            if self._tell is not None:
                self._tell(self._standing)
