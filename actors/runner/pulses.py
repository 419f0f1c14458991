"""A runner's sign of life, once a second, to the worker that watches it."""

import asyncio
from collections.abc import Callable

from actors.runner.job import RunnerJob
from actors.runner.vitals import Vitals
from bus.bus import Bus
from bus.errors import BusAway


async def send_pulses(bus: Bus, job: RunnerJob, vitals: Vitals, running: Callable[[], int]) -> None:
    """Until cancelled; `running` tells how many requests are taken up."""
    loop = asyncio.get_running_loop()
    subject, due = bus.subjects.pulse(job.node, job.instance), loop.time()
    while True:
        try:
            await bus.send(subject, vitals.pulse(job.instance, job.attempt, job.rank, running()))
        except BusAway:
            await bus.until_connected()
        due = max(due + job.pulse_s, loop.time())
        await asyncio.sleep(due - loop.time())
