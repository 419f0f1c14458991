"""The log: how fast events are appended and applied, and that joining costs the state and never the log."""

import time
from pathlib import Path

import pytest

from bus.bus import Bus
from schemas.events import ModelDesired
from schemas.ids import ModelId
from schemas.model import ModelSpec
from schemas.state import State
from tests.bench.history import UNDER_WAY, append, fact, join_times
from tests.bench.table import Table, ms, percentile
from tests.conftest import ConnectBus
from tests.nodes import StartNode
from tests.replay import replay

pytestmark = pytest.mark.bench

GROUP = "The log"
ONE_BY_ONE = 3000
MANY, FEW = 100_000, 100
JOINS = 40


async def test_appending_and_applying(table: Table, bus: Bus, connect_bus: ConnectBus) -> None:
    def add(what: str, count: int, began: float, note: str = "") -> None:
        table.add(GROUP, what, f"{count / (time.perf_counter() - began):,.0f} a second", "", note)

    began, last = time.perf_counter(), 0
    for number in range(ONE_BY_ONE):
        spec = ModelSpec(id=ModelId(f"m{number % 20}"), source="/x", replicas=0, context=number + 1)
        last = await bus.log.decide(ModelDesired(spec=spec), term=1, after=last)
    add("decisions appended", ONE_BY_ONE, began, "fenced, each after the last one's acknowledgement")
    began = time.perf_counter()
    for number in range(ONE_BY_ONE):
        await bus.log.record(fact(number))
    add("facts appended, one by one", ONE_BY_ONE, began)
    began = time.perf_counter()
    await append(bus, MANY - 2 * ONE_BY_ONE)
    add(f"facts appended, {UNDER_WAY} under way", MANY - 2 * ONE_BY_ONE, began)
    events = [recorded async for recorded in bus.log.past()]
    began = time.perf_counter()
    state = replay(events)
    add(f"{MANY:,} events applied in memory", MANY, began)
    began = time.perf_counter()
    other = await connect_bus("n2")
    add(f"{MANY:,} events read and applied by a View", MANY, began, "no snapshot: all come from the server")
    assert other.view.state == state != State()


async def test_joining(table: Table, start_node: StartNode, tmp_path: Path) -> None:
    took = await join_times(start_node, tmp_path, (FEW, MANY), JOINS)
    for events, times in took.items():
        note = f"p50 of {JOINS}; slowest {ms(max(times))}"
        table.add(
            "Joining", f"a View is ready, {events:,} events in the log", ms(percentile(times, 0.5)), "", note
        )
    ratio = percentile(took[MANY], 0.5) / percentile(took[FEW], 0.5)
    table.add("Joining", f"{MANY:,} events to {FEW}", f"{ratio:.2f}", "1 within noise")
