"""Clients that stream all the time, and how each of their requests ended."""

import asyncio
import json
from collections import Counter
from random import Random
from typing import Literal

import httpx
from msgspec import Struct

from tests.chaos.cluster import GUIDE, SIM, Cluster, Seat

DEADLINE_S = 120.0
"""No request may take longer: waiting, silence and the longest freeze together take less."""
DYING_S = 1.0
"""A killed process may still take a connection until the kernel has cleared it away."""
Kind = Literal["answered", "refused", "event", "killed", "nobody", "cut", "hung"]


class Outcome(Struct, frozen=True):
    """killed: its API node was; nobody: no node listened; cut and hung: never right."""

    kind: Kind
    detail: str
    node: str
    began: float
    ended: float


class Crowd:
    """`size` clients, each with one stream after the other, at nodes that are up."""

    def __init__(self, cluster: Cluster, seed: int, size: int) -> None:
        self._cluster = cluster
        self._random = Random(seed)
        self._size = size
        self.outcomes: list[Outcome] = []
        self._leaving = False

    async def stream_on(self) -> None:
        """Until `leave` is called; every stream that has begun is ended."""
        async with asyncio.TaskGroup() as clients:
            for number in range(self._size):
                clients.create_task(self._client(GUIDE if number == 0 else SIM))

    def leave(self) -> None:
        self._leaving = True

    async def _client(self, model: str) -> None:
        async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), timeout=None) as http:
            while not self._leaving:
                seat = self._random.choice(self._cluster.seats)
                outcome = await stream(http, seat, model, self._random.randint(20, 200))
                self.outcomes.append(outcome)
                if outcome.kind != "answered":
                    await asyncio.sleep(0.2)

    def counts(self) -> dict[str, int]:
        return dict(Counter(f"{o.kind} {o.detail}".strip() for o in self.outcomes).most_common())

    def wronged(self) -> list[Outcome]:
        """Requests that were neither answered nor told why not, or waited for ever."""
        return [o for o in self.outcomes if o.kind in ("cut", "hung") or "internal_error" in o.detail]


async def stream(http: httpx.AsyncClient, seat: Seat, model: str, tokens: int) -> Outcome:
    """One request and its end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(DEADLINE_S):
            kind, detail = await _streamed(http, seat.url, model, tokens)
    except TimeoutError:
        kind, detail = "hung", model
    except httpx.ConnectError:
        kind, detail = "nobody", ""
    except httpx.TransportError as broken:
        killed = any(began - DYING_S <= at for at in seat.killed_at)
        kind, detail = ("killed", "") if killed else ("cut", repr(broken))
    return Outcome(kind, detail, seat.name, began, loop.time())


async def _streamed(http: httpx.AsyncClient, url: str, model: str, tokens: int) -> tuple[Kind, str]:
    request = {
        "model": model,
        "messages": [{"role": "user", "content": "Count to 40"}],
        "max_tokens": tokens,
        "stream": True,
    }
    async with http.stream("POST", f"{url}/v1/chat/completions", json=request) as response:
        if response.status_code != 200:
            return "refused", f"{response.status_code} {_code(await response.aread())}"
        error, done = "", False
        async for line in response.aiter_lines():
            if line.startswith("data: {") and '"error"' in line:
                error = _code(line.removeprefix("data: ").encode())
            done = line == "data: [DONE]" or (done and not line)
        if not done:
            return "cut", "the stream ended without [DONE]"
        return ("event", error) if error else ("answered", "")


def _code(body: bytes) -> str:
    error = json.loads(body)["error"]
    return error["code"] or error["type"]
