"""A runner whose engine goes on without its draft says so: once in the log, and in its pulses."""

import asyncio
from pathlib import Path

import msgspec

from actors.engine.port import Gauges
from actors.engine.simulated import SimulatedEngine
from actors.runner.engine_thread import EngineThread
from schemas.chunks import Chunk
from schemas.events import InstancePlaced, Recorded, RunnerReported
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.instance import RunnerStatus, Shard
from schemas.model import ModelSpec, SimulatedSpeed
from schemas.state import State, apply
from tests.engine.running import ORIGIN, a_task

WHY = "it goes on without its draft, which failed: [malloc] no room"


class Losing(SimulatedEngine):
    """Says that it has lost a draft once it has worked."""

    worked = False

    def step(self) -> list[Chunk]:
        self.worked = True
        return super().step()

    @property
    def gauges(self) -> Gauges:
        return msgspec.structs.replace(super().gauges, draft_lost=WHY if self.worked else "")


async def test_it_is_said_once(llama: Path) -> None:
    stages: asyncio.Queue[tuple[RunnerStatus, int]] = asyncio.Queue()
    ended = asyncio.Event()
    thread = EngineThread(
        lambda: Losing(llama, ORIGIN, SimulatedSpeed(prefill=1e9, decode=1e6)),
        lambda status, slots: stages.put_nowait((status, slots)),
        lambda _: ended.set(),
        lambda _: None,
    )
    life = thread.start()
    said = [await stages.get() for _ in range(3)]
    assert said == [("loading", 0), ("warming", 0), ("ready", 64)]
    thread.add(a_task())
    assert await stages.get() == ("ready", 64)
    assert thread.vitals.gauges.draft_lost == WHY
    assert thread.vitals.pulse(InstanceId("i"), 1, 0, 0).draft_lost
    thread.add(a_task(request="r2"))
    await ended.wait()
    thread.leave()
    await life
    assert stages.empty()


def test_an_instance_that_is_ready_still_is_ready_since_then() -> None:
    spec = ModelSpec(id=ModelId("m"), source="x")
    placed = InstancePlaced(instance=InstanceId("i"), spec=spec, shards=(Shard(node=NodeId("n")),))
    ready = RunnerReported(instance=InstanceId("i"), node=NodeId("n"), attempt=1, status="ready", slots=4)
    state = State()
    for at, event in enumerate((placed, ready, msgspec.structs.replace(ready, reason=WHY)), 1):
        state = apply(state, Recorded(event=event, seq=at, time=float(at)))
    found = state.instances[InstanceId("i")]
    assert (found.status, found.reason, found.ready_at) == ("ready", WHY, 2.0)
