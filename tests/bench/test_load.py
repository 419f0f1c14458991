"""One API process under load: tokens and requests a second, and what each process spends on a million tokens.

The simulated engine offers more than can be carried ("flood": what waits is joined, so that events have several
tokens), or a set rate (where nearly each token is an event of its own).
"""

import pytest
from msgspec import Struct

from bus.server import Server
from tests.bench.simulated import SimulatedCluster, simulated_cluster
from tests.bench.table import Table, ms, percentile
from tests.nodes import StartNode

pytestmark = pytest.mark.bench

REPEATS = 3


class Tide(Struct, frozen=True):
    """`streams` clients at `decode` tokens a second each; `requests` of `tokens` for each client."""

    what: str
    streams: int
    decode: float
    requests: int
    tokens: int
    aim: str = ""


TIDES = (
    Tide("1 stream, flood", 1, 50_000, 2, 8000),
    Tide("50 streams, flood", 50, 5_000, 1, 4000),
    Tide("500 streams, flood", 500, 400, 1, 600, ">= 50,000"),
    Tide("1 stream, 2,000 tokens/s", 1, 2_000, 1, 4000),
    Tide("50 streams, 20,000 tokens/s in all", 50, 400, 1, 1200),
    Tide("500 streams, 20,000 tokens/s in all", 500, 40, 1, 120),
    Tide("500 streams, 60,000 tokens/s in all", 500, 120, 1, 720, ">= 50,000"),
)
BURSTS = ((1, 300), (50, 30), (500, 6))


@pytest.mark.timeout(0)
async def test_one_api_process(table: Table, start_node: StartNode, nats_server: Server) -> None:
    async with simulated_cluster(start_node, nats_server) as cluster:
        for tide in TIDES:
            await tokens_a_second(table, cluster, tide)
        for streams, requests in BURSTS:
            for streamed in (True, False):
                await requests_a_second(table, cluster, streams, requests, streamed)


async def tokens_a_second(table: Table, cluster: SimulatedCluster, tide: Tide) -> None:
    """The best of some repeats: the machine is shared, and what disturbs only ever slows."""
    async with cluster.model(tide.decode) as model:
        await cluster.load(model, streams=tide.streams, requests=1, tokens=10)
        runs = [
            await cluster.load(model, streams=tide.streams, requests=tide.requests, tokens=tide.tokens)
            for _ in range(REPEATS)
        ]
    assert not [error for result, _ in runs for error in result.errors]
    assert {result.tokens for result, _ in runs} == {tide.streams * tide.requests * tide.tokens}
    best, cpu = max(runs, key=lambda run: run[0].tokens / run[0].wall_s)
    used = ", ".join(f"{name} {seconds / best.tokens * 1e6:.1f}" for name, seconds in cpu.items())
    group = "Tokens through one API process, all on two cores"
    note = (
        f"{best.deltas / best.wall_s:,.0f} events/s; API alone {best.tokens / cpu['api']:,.0f} tokens a CPU second; "
        f"CPU s for 1M tokens: {used}; TTFT p50 {ms(percentile(best.first_s, 0.5))}"
    )
    table.add(group, tide.what, f"{best.tokens / best.wall_s:,.0f} tokens/s", tide.aim, note)


async def requests_a_second(
    table: Table, cluster: SimulatedCluster, streams: int, requests: int, streamed: bool
) -> None:
    async with cluster.model(50_000) as model:
        await cluster.load(model, streams=streams, requests=2, tokens=1)
        runs = [
            await cluster.load(model, streams=streams, requests=requests, tokens=1, stream=streamed)
            for _ in range(REPEATS)
        ]
    assert not [error for result, _ in runs for error in result.errors]
    best, cpu = max(runs, key=lambda run: run[0].answers / run[0].wall_s)
    used = ", ".join(f"{name} {seconds / best.answers * 1e3:.2f}" for name, seconds in cpu.items())
    note = (
        f"API alone {best.answers / cpu['api']:,.0f} a CPU second; CPU ms each: {used}; "
        f"p50 {ms(percentile(best.whole_s, 0.5))}, p99 {ms(percentile(best.whole_s, 0.99))}"
    )
    what = f"{streams} at once, {'streamed' if streamed else 'whole'}, answers of one token"
    aim = ">= 1,000" if streams > 1 else ""
    table.add(
        "Requests through one API process", what, f"{best.answers / best.wall_s:,.0f} a second", aim, note
    )
