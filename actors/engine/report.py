"""What MLX computes with on this machine, told by a process of its own: `python -m actors.engine.report`.

A BLAS cannot be unloaded, so that a process which only wants to know its name asks another one.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import msgspec
from msgspec import Struct

from actors.engine.blas import load_fast_blas
from actors.engine.speed import Speed


class EngineReport(Struct, frozen=True, kw_only=True):
    """MLX and its BLAS; device and speed are there only when they were measured."""

    blas: str
    fast: bool
    path: str = ""
    threads: int = 0
    note: str = ""
    mlx: str = ""
    mlx_lm: str = ""
    device: str = ""
    speed: Speed | None = None
    """Of the device that the engine computes on."""


class NoReport(Exception):
    """The engine's process ended without a report; says its last words."""


def report_engine(measure: bool) -> EngineReport:
    """The report of this process; loads the BLAS into it, and MLX too when it is to `measure`."""
    blas = load_fast_blas()
    device, speed = _measured() if measure else ("", None)
    return EngineReport(
        blas=f"{blas.name} {blas.version}".strip(),
        fast=blas.is_fast,
        path=blas.path,
        threads=blas.threads,
        note=blas.note,
        mlx=_version("mlx"),
        mlx_lm=_version("mlx-lm"),
        device=device,
        speed=speed,
    )


def ask_engine(measure: bool, timeout_s: float = 60.0) -> EngineReport:
    """The report of another process; blocks for a fraction of a second."""
    command = [sys.executable, "-m", "actors.engine.report", *(["--measure"] if measure else [])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=True)
        return msgspec.json.decode(done.stdout, type=EngineReport)
    except subprocess.CalledProcessError as failure:
        words = failure.stderr.decode(errors="replace").strip().splitlines() or [f"exit {failure.returncode}"]
        raise NoReport(words[-1]) from failure
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError) as failure:
        raise NoReport(str(failure)) from failure


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _measured() -> tuple[str, Speed]:
    """MLX binds to the BLAS that is there when it is loaded: not before."""
    import mlx.core as mx

    from actors.engine.measurement import measure_speed

    return str(mx.default_device()), measure_speed()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(report_engine(measure="--measure" in sys.argv)))
