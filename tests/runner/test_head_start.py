"""The last rank waits until rank 0 listens."""

import asyncio
import socket
import sys

import msgspec
import pytest

from actors.runner.head_start import head_start, listens
from schemas.group import Present

ME = Present(rank=1, host="127.0.0.1", port=1, machine="here")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows who listens")
async def test_until_it_listens_and_not_as_soon_as_it_has_its_port() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        first = msgspec.structs.replace(ME, rank=0, port=held.getsockname()[1])
        assert not listens(first.port)
        held.listen()
        assert listens(first.port)
        async with asyncio.timeout(20):
            await head_start(first, ME)


async def test_one_that_never_comes_or_cannot_be_seen_is_not_waited_for_without_end() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        for machine in ("here", "elsewhere"):
            first = msgspec.structs.replace(ME, rank=0, port=held.getsockname()[1], machine=machine)
            async with asyncio.timeout(20):
                await head_start(first, ME)
