"""Clients as they are: quick, slow, stalled, vanishing; each with one stream after the other."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import msgspec

END = b"\r\n0\r\n\r\n"
QUICK_TOKENS = 200
ENDLESS_TOKENS = 90_000
"""What a client asks for that will not stay."""
SMALL_BUFFER = 16 * 1024
Behaviour = Callable[["RoughClients", StreamReader], Awaitable[None]]


async def quick(clients: "RoughClients", reader: StreamReader) -> None:
    """Reads to the end; anything but a whole answer is counted as broken."""
    heard = await _until_end(reader, pause_s=0.0)
    clients.note("whole" if b"data: [DONE]" in heard and b'"error"' not in heard else "broken")


async def slow(clients: "RoughClients", reader: StreamReader) -> None:
    """Takes a little at a time, and still gets all."""
    heard = await _until_end(reader, pause_s=0.2)
    clients.note("whole, slowly" if b"data: [DONE]" in heard and b'"error"' not in heard else "broken")


async def stalled(clients: "RoughClients", reader: StreamReader) -> None:
    """Reads its first words and then nothing, for long."""
    await reader.read(1)
    with suppress(TimeoutError):
        await asyncio.wait_for(clients.leaving.wait(), clients.random.uniform(20, 40))
    clients.note("stalled")


async def vanishing(clients: "RoughClients", reader: StreamReader) -> None:
    """Leaves in the middle of a word."""
    for _ in range(clients.random.randint(1, 20)):
        await reader.read(4096)
    clients.note("vanished")


BEHAVIOURS: dict[Behaviour, tuple[int, int]] = {
    quick: (50, QUICK_TOKENS),
    slow: (20, QUICK_TOKENS),
    stalled: (10, ENDLESS_TOKENS),
    vanishing: (20, ENDLESS_TOKENS),
}
"""How many of a hundred clients behave so, and how many tokens they ask for."""


class RoughClients:
    """`size` clients of one API process; `ended` counts how their streams did."""

    def __init__(self, url: str, model: str, size: int, seed: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.random = Random(seed)
        self.leaving = asyncio.Event()
        self.ended: Counter[str] = Counter()
        self._host, self._port, self._model, self._size = host, int(port), model, size

    def note(self, how: str) -> None:
        self.ended[how] += 1

    @asynccontextmanager
    async def streaming(self) -> AsyncGenerator[None]:
        """While the block runs; then all of them leave."""
        shares = [share for share, _ in BEHAVIOURS.values()]
        played = self.random.choices(list(BEHAVIOURS), shares, k=self._size)
        tasks = [asyncio.create_task(self._play(behaviour)) for behaviour in played]
        yield
        self.leaving.set()
        for task in tasks:
            task.cancel()
        for done in asyncio.as_completed(tasks):
            with suppress(asyncio.CancelledError):
                await done

    async def _play(self, behaviour: Behaviour) -> None:
        tokens = BEHAVIOURS[behaviour][1]
        while not self.leaving.is_set():
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=SMALL_BUFFER)
            try:
                await self._ask(writer, tokens)
                await behaviour(self, reader)
            except ConnectionError as broken:
                self.note(f"broken: {broken}")
            finally:
                writer.transport.abort()

    async def _ask(self, writer: StreamWriter, tokens: int) -> None:
        body = msgspec.json.encode(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": "the sea"}],
                "max_tokens": tokens,
                "stream": True,
            }
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()


async def _until_end(reader: StreamReader, pause_s: float) -> bytes:
    heard = b""
    while not heard.endswith(END):
        block = await reader.read(2048 if pause_s else 65_536)
        if not block:
            raise ConnectionError("the line was cut")
        heard = (heard + block)[-4096:]
        if pause_s:
            await asyncio.sleep(pause_s)
    return heard
