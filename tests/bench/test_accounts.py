"""What keeping accounts costs: for each chunk of tokens, and for each scrape of `/metrics`."""

import time
import timeit
from collections.abc import Callable

import msgspec
import pytest
from prometheus_client import Histogram
from prometheus_client.exposition import generate_latest

from api.accounts.account import Account
from api.accounts.metrics import Collected
from api.accounts.tally import Tally
from api.context import Context
from api.requests.request import InFlight
from api.settings import ApiSettings
from bus.bus import Bus
from schemas.chunks import Frame, Tokens
from schemas.ids import ModelId, RequestId
from schemas.task import pack_ids
from tests.bench.table import Table

pytestmark = pytest.mark.bench

GROUP = "Accounts"
STREAMS, STEPS, MODELS = 64, 400, 10


def thread_ns(call: Callable[[], object], number: int = 100_000) -> float:
    """Processor time of one call, the best of several runs."""
    return min(timeit.repeat(call, number=number, repeat=9, timer=time.thread_time)) / number * 1e9


async def test_a_chunk_of_tokens(table: Table) -> None:
    account, series = Account(), Histogram("inter_token", "as the library counts", ["model"], registry=None)
    account.took(0, 1)
    empty = thread_ns(lambda: None)
    took = thread_ns(lambda: account.took(0, 1)) - empty
    observed = thread_ns(lambda: series.labels("m").observe(0.01)) - empty
    whole = _chunk_ns()
    table.add(GROUP, "one chunk of tokens, accounted for", f"{took:.0f} ns", "", "clock, bucket, two sums")
    table.add(GROUP, "the same by prometheus_client's Histogram", f"{observed:.0f} ns")
    table.add(GROUP, "decoding and taking the chunk, all told", f"{whole:.0f} ns", "", f"{STREAMS} streams")


def _chunk_ns() -> float:
    requests = {
        (name := RequestId(f"{number:024}")): InFlight(name, ModelId("m")) for number in range(STREAMS)
    }
    frames = [
        msgspec.msgpack.encode([Tokens(name, 1, 0, step, pack_ids([5])) for name in requests])
        for step in range(STEPS)
    ]
    decode = msgspec.msgpack.Decoder(Frame).decode
    began = time.thread_time()
    for frame in frames:
        for chunk in decode(frame):
            requests[chunk.request].take(chunk)
    return (time.thread_time() - began) / STREAMS / STEPS * 1e9


async def test_a_scrape(table: Table, bus: Bus) -> None:
    context = Context(bus, ApiSettings())
    for number in range(MODELS):
        tally = context.requests.accounts.tallies[ModelId(f"m{number}")] = Tally()
        tally.ended["stop", ""] += 1
    text = generate_latest(Collected(context, {}))
    cost = thread_ns(lambda: generate_latest(Collected(context, {})), number=10) / 1e6
    table.add(GROUP, f"one scrape, {MODELS} models", f"{cost:.1f} ms", "", f"{len(text):,} bytes")
    context.close()
