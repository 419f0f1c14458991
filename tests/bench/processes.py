"""The processes that share the work, and the CPU seconds each of them used."""

import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import psutil

from tests.bench.crowd import Job, Result


async def crowd(job: Job) -> Result:
    """What a third process hears that plays many clients."""
    process = await create_subprocess_exec(sys.executable, "-m", "tests.bench.crowd", stdin=PIPE, stdout=PIPE)
    heard, _ = await process.communicate(msgspec.json.encode(job))
    assert process.returncode == 0
    return msgspec.json.decode(heard, type=Result)


class CpuMeter:
    """CPU seconds of processes since it was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: _cpu_s(process) for name, process in self._processes.items()}

    def read(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for name, process in self._processes.items():
            with suppress(psutil.NoSuchProcess):
                used[name] = _cpu_s(process) - self._before[name]
        return used


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
