"""The watch over a runner, on a real bus that freezes: who is silent is not always who is dead."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from actors.worker.runner_process import Ending
from actors.worker.runner_watch import RunnerWatch
from actors.worker.watchdog import Patience
from bus.bus import Bus
from bus.server import Server
from schemas.ids import InstanceId, ModelId
from schemas.instance import Instance, Shard
from schemas.model import ModelSpec
from schemas.node import Pulse

PATIENCE = Patience(start_s=1.0, silence_s=1.0)
PULSE = Pulse(instance=InstanceId("i1"), attempt=1, steps=0, step_age_s=0, step_cpu_s=0, slowest_step_s=0)


class Killable:
    """What the watch needs of a process."""

    def __init__(self) -> None:
        self.killed = asyncio.Event()

    def kill(self) -> None:
        self.killed.set()


@asynccontextmanager
async def watched(bus: Bus) -> AsyncIterator[tuple[Killable, RunnerWatch]]:
    shard = Shard(node=bus.node)
    spec = ModelSpec(id=ModelId("m"), source="/m")
    process = Killable()
    watch = RunnerWatch(
        bus,
        Instance(seq=1, id=PULSE.instance, spec=spec, shards=(shard,)),
        shard,
        PATIENCE,
        cast("Any", process),
    )
    async with watch.watching():
        yield process, watch


async def pulses(bus: Bus) -> None:
    while True:
        await bus.send(bus.subjects.pulse(bus.node, PULSE.instance), PULSE)
        await asyncio.sleep(0.2)  # the pause: pulses have a beat


async def test_a_silent_runner_is_ended_with_the_reason(bus: Bus) -> None:
    async with watched(bus) as (process, watch):
        async with asyncio.timeout(10):
            await process.killed.wait()
        ending = watch.verdict(Ending("the runner was killed by SIGKILL", True, "last lines"))
    assert ending.reason.startswith("the runner was silent for")
    assert (ending.retryable, ending.diagnostics) == (True, "last lines")


async def test_a_frozen_bus_makes_no_runner_silent(bus: Bus, nats_server: Server) -> None:
    async with watched(bus) as (process, _):
        pulsing = asyncio.create_task(pulses(bus))
        os.kill(nats_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await process.killed.wait()
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
        await bus.until_connected()
        assert not process.killed.is_set()
        pulsing.cancel()
        async with asyncio.timeout(10):
            await process.killed.wait()


async def test_garbage_for_a_pulse_is_no_sign_of_life(bus: Bus) -> None:
    async with watched(bus) as (process, _), asyncio.timeout(10):
        while not process.killed.is_set():
            await bus.send_raw(bus.subjects.pulse(bus.node, PULSE.instance), b"{}")
            await asyncio.sleep(0.2)  # the pause: pulses have a beat
