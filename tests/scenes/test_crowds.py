"""Clients in crowds, slow ones, vanishing ones, and those that send too much or nothing at all."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import msgspec
import psutil
import pytest

from schemas.model import SimulatedSpeed
from tests.nodes import NodeProcess, StartNode, watching
from tests.scenes.test_runner_death import SIM, SIM_SPEC, answered, client_of, load

SLOTS = 64
SPEC = msgspec.structs.replace(SIM_SPEC, simulated=SimulatedSpeed(decode=200, prefill=100_000, slots=SLOTS))
PATH = "/v1/chat/completions"


@pytest.fixture
async def node(start_node: StartNode) -> AsyncIterator[NodeProcess]:
    node = await start_node("a", "--model", "none")
    async with watching(node) as bus:
        await load(bus, SPEC)
    yield node
    assert node.process.returncode is None
    assert "actor.failed" not in node.journal
    assert "api.failed" not in node.journal


def chat(tokens: int, *, stream: bool = False, content: str = "hello") -> dict[str, object]:
    return {
        "model": SIM,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "stream": stream,
    }


async def opened(node: NodeProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(node.info.api_url)
    return await asyncio.open_connection(address.hostname, address.port)


def head(length: int | None) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode()


async def test_a_thousand_clients_at_once(node: NodeProcess) -> None:
    """More than there are slots: what has no slot waits in the queue."""
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=node.info.api_url, limits=unlimited, timeout=90) as http:
        responses = await asyncio.gather(*(http.post(PATH, json=chat(10)) for _ in range(1000)))
    assert {response.status_code for response in responses} == {200}
    assert {response.json()["usage"]["completion_tokens"] for response in responses} == {10}


async def test_clients_that_vanish_leave_their_slots(node: NodeProcess) -> None:
    body = json.dumps(chat(1500, stream=True)).encode()
    for _ in range(2):
        lines = [await opened(node) for _ in range(2 * SLOTS)]
        for _, writer in lines:
            writer.write(head(len(body)) + body)
        async with asyncio.timeout(20):
            await asyncio.gather(*(reader.readline() for reader, _ in lines[:SLOTS]))
        for number, (_, writer) in enumerate(lines):
            if number % 2:
                writer.transport.abort()
            writer.close()
    async with asyncio.timeout(20):
        assert await answered(client_of(node))


@pytest.mark.slow
async def test_a_client_that_does_not_read_holds_nobody_up(node: NodeProcess) -> None:
    body = json.dumps(chat(600, stream=True)).encode()
    with socket.create_connection(
        (urlsplit(node.info.api_url).hostname, urlsplit(node.info.api_url).port)
    ) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        slow.sendall(head(len(body)) + body)
        async with asyncio.timeout(20):
            assert all(await asyncio.gather(*(answered(client_of(node)) for _ in range(20))))
        slow.settimeout(30)
        seen = await asyncio.to_thread(read_to, slow, b"[DONE]")
    assert seen.count(b'"content"') > 100


def read_to(line: socket.socket, end: bytes) -> bytes:
    seen = b""
    while end not in seen[-200:]:
        seen += line.recv(65_536)
    return seen


async def test_what_is_too_much_is_refused_and_what_never_comes_is_no_matter(node: NodeProcess) -> None:
    process = psutil.Process(node.process.pid)
    before = process.memory_info().rss
    async with AsyncExitStack() as stack:
        for number in range(200):  # lines that are open, and bring nothing or half of a head
            _, writer = await opened(node)
            stack.callback(writer.close)
            writer.write(b"" if number % 2 else b"POST /v1/chat/comp")
        assert (await status(node, head(10**9))) == 413
        assert (await status(node, head(10**30))) in (400, 413)
        assert (await status(node, head(None), endless=b"10000\r\n" + b"x" * 0x10000 + b"\r\n")) == 413
        async with httpx.AsyncClient(base_url=node.info.api_url, timeout=60) as http:
            for content in ("x" * 7_000_000, "[" * 1_000_000, "\N{PILE OF POO}" * 500_000):
                told = await http.post(PATH, json=chat(5, content=content))
                assert (told.status_code, told.json()["error"]["code"]) == (400, "context_length_exceeded")
            told = await http.post(PATH, content=b"[" * 5_000_000)
            assert told.status_code == 400
        assert await answered(client_of(node))
    assert process.memory_info().rss < before + 400 * 2**20


async def status(node: NodeProcess, opening: bytes, endless: bytes = b"") -> int:
    """The status of a request whose body never ends."""
    reader, writer = await opened(node)
    writer.write(opening)

    async def pour() -> None:
        while endless:
            writer.write(endless)
            await writer.drain()

    pouring = asyncio.create_task(pour())
    try:
        async with asyncio.timeout(30):
            return int((await reader.readline()).split()[1])
    finally:
        pouring.cancel()
        await asyncio.wait([pouring])
        writer.close()
