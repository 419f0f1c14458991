"""A node that is frozen keeps its connections and its claims, and holds nobody up once its lease has run out."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from actors.downloader.peers.piece_server import PieceServer
from schemas.events import NodeLost
from tests.downloader.member import Join, Member
from tests.downloader.test_peers import llama, same
from tests.facts import joined
from tests.hub import Hub

__all__ = ["llama"]


async def lose(node: str, by: Member) -> None:
    lost = NodeLost(node=joined(node).node, incarnation=joined(node).incarnation, why="its lease ran out")
    await by.bus.log.decide(lost, term=1, after=await by.bus.log.last_decision())


def freezing(asked: asyncio.Event, after: int) -> Callable[..., Any]:
    """In the place of `PieceServer._send`: so many bytes come, then nothing more."""

    async def send(_server: PieceServer, file: Any, piece: int, send: Any) -> None:
        headers = [(b"content-length", str(file.size_of(piece)).encode())]
        if after:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": bytes(after), "more_body": True})
        asked.set()
        await asyncio.Event().wait()

    return send


@pytest.mark.parametrize("after", [0, 100])
async def test_who_serves_pieces_freezes(
    join: Join, hub: Hub, llama: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    asked = asyncio.Event()
    first, second = await join("a"), await join("b")
    await first.pull()
    await first.pulled()
    monkeypatch.setattr(PieceServer, "_send", freezing(asked, after))
    second.actor._colleagues._client.timeout = httpx2.Timeout(None)  # nothing but its loss ends the wait
    await second.pull()
    await asked.wait()
    await lose("a", second)
    await second.pulled()
    assert same(second, llama)
