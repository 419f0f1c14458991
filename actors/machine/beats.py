"""A node's sign of life: its load, once a second over core NATS."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import psutil

from actors.machine.memory import read_memory
from bus.bus import Bus
from bus.errors import BusAway
from bus.signs import Signs
from schemas.ids import InstanceId, NodeId
from schemas.node import Beat

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "acpitz")
"""Names under which Linux drivers report a processor's temperature, the most exact first."""

Sample = Callable[[], Beat]


async def send_beats(bus: Bus, node: NodeId, sample: Sample, every_s: float = 1.0) -> None:
    """Send a sample at each tick, for ever; ticks during which the bus is away are left out."""
    subject, loop, signs = bus.subjects.beat(node), asyncio.get_running_loop(), Signs(bus)
    due = loop.time()
    async with signs.listening(node):
        while True:
            try:
                await bus.send(subject, with_tokens(sample(), signs))
            except BusAway:
                await bus.until_connected()
            due = max(due + every_s, loop.time())
            await asyncio.sleep(due - loop.time())


def with_tokens(beat: Beat, signs: Signs) -> Beat:
    """With what the node's runners make together, by their last pulses."""
    return msgspec.structs.replace(beat, tokens_s=sum(pulse.tokens_s for pulse in signs.pulses.values()))


def sample_load(node: NodeId, instances: Sequence[InstanceId] = ()) -> Beat:
    """This machine's load since the last sample."""
    memory = read_memory()
    return Beat(
        node=node,
        cpu_percent=psutil.cpu_percent(),
        memory_used_bytes=memory.used_bytes,
        memory_free_bytes=memory.free_bytes,
        instances=tuple(instances),
        temperature_c=read_temperature(),
    )


def read_temperature() -> float | None:
    """The processor's temperature in degrees Celsius, where the system tells it."""
    sensors = getattr(psutil, "sensors_temperatures", None)
    if sensors is None:
        return None
    return hottest(cast("Mapping[str, Sequence[Any]]", sensors()))


def hottest(readings: Mapping[str, Sequence[Any]]) -> float | None:
    """The hottest reading of the best processor sensor that is there."""
    for name in CPU_SENSORS:
        if readings.get(name):
            return max(float(reading.current) for reading in readings[name])
    return None
