"""What this machine offers, measured once when a node starts."""

import platform
import sys
import time

import msgspec
import structlog

from actors.engine.cores import usable_cores
from actors.engine.report import EngineReport, NoReport
from actors.machine.accelerator import find_accelerator
from actors.machine.engine_memory import known_engine
from actors.machine.memory import read_memory
from schemas.node import NodeProfile

log = structlog.get_logger()

COPIED_BYTES = 32 * 2**20
"""More than most caches hold, little enough for a few milliseconds."""
MEASURE_S = 0.05


def measure_profile() -> NodeProfile:
    """This machine's profile; takes about a second when nobody has measured it of late, so run it off the event loop."""
    accelerator, engine = find_accelerator(), _ask_engine()
    speed = msgspec.structs.asdict(engine.speed) if engine and engine.speed else {}
    return NodeProfile(
        hostname=platform.node(),
        platform=f"{sys.platform}-{platform.machine()}",
        cores=usable_cores(),
        memory_bytes=read_memory().total_bytes,
        accelerator=accelerator.kind,
        accelerator_name=accelerator.name,
        accelerator_memory_bytes=accelerator.memory_bytes,
        memory_bandwidth_bytes_s=measure_bandwidth(),
        blas=engine.blas if engine else "",
        **speed,
    )


def _ask_engine() -> EngineReport | None:
    try:
        return known_engine()
    except NoReport as failure:
        log.warning("profile.no_engine", reason=str(failure))
        return None


def measure_bandwidth(copied_bytes: int = COPIED_BYTES, measure_s: float = MEASURE_S) -> float:
    """Memory bandwidth of one core in bytes a second, the best of some copies; a copy reads and writes."""
    source, target = bytearray(copied_bytes), bytearray(copied_bytes)
    target[:] = source  # the first touch of a page costs more than the copy
    until, fastest_s = time.perf_counter() + measure_s, _copy_s(source, target)
    while time.perf_counter() < until:
        fastest_s = min(fastest_s, _copy_s(source, target))
    return 2 * copied_bytes / fastest_s


def _copy_s(source: bytearray, target: bytearray) -> float:
    began = time.perf_counter()
    target[:] = source
    return time.perf_counter() - began
