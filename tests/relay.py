"""A TCP relay between a node and its bus: it can be cut, hold back what the node sends, and tell what it was told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Lets bytes through in both directions until the node sends something that contains `trap`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._trap = b""
        self._open = asyncio.Event()
        self._open.set()
        self.sprung = asyncio.Event()
        """The trap's bytes were sent by the node; they and all after them are held back."""
        self.answers = bytearray()
        """What the bus sent to the node since the trap was set."""
        self.port = 0
        self._cut = False
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def set_trap(self, trap: bytes) -> None:
        self._trap = trap
        self.answers.clear()

    def release(self) -> None:
        """Let what was held back go on its way."""
        self._trap = b""
        self._open.set()

    def cut(self) -> None:
        """End all connections, and let none through until `mend`."""
        self._cut = True
        for end in self._ends:
            end.close()

    def mend(self) -> None:
        self._cut = False

    async def until_answered(self, words: bytes) -> None:
        while words not in self.answers:
            self._heard = asyncio.Event()
            await self._heard.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.close()
            return
        onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._ends |= {writer, onward}
        with suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(self._forth(reader, onward), self._back(onward_reader, writer))
        self._ends -= {writer, onward}
        for end in (writer, onward):
            end.close()

    _heard = asyncio.Event()

    async def _forth(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        while block := await reader.read(65_536):
            if self._trap and self._trap in block:
                self._open.clear()
                self.sprung.set()
            await self._open.wait()
            onward.write(block)
            await onward.drain()
        onward.close()

    async def _back(self, onward_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await onward_reader.read(65_536):
            self.answers += block
            self._heard.set()
            writer.write(block)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def relaying(target_port: int) -> AsyncIterator[Relay]:
    relay = Relay(target_port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        relay.release()
        server.close()
