"""What MLX would compute with on this machine, found without importing it."""

import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from msgspec import Struct

from actors.machine.memory import read_memory
from schemas.node import Accelerator

CUDA_PACKAGES = ("mlx-cuda-13", "mlx-cuda-12", "mlx-cuda")
Run = Callable[[Sequence[str]], str]


class Found(Struct, frozen=True, kw_only=True):
    """An accelerator; `note` says why a better one is not used."""

    kind: Accelerator = "cpu"
    name: str = ""
    memory_bytes: int = 0
    note: str = ""


def output_of(command: Sequence[str]) -> str:
    """What a short command prints; nothing when it is missing, fails, or takes longer than five seconds."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def find_accelerator(run: Run = output_of) -> Found:
    """The accelerator that MLX uses here: Metal on Apple Silicon, CUDA with its package, else the CPU."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Found(
            kind="metal",
            name=run(["sysctl", "-n", "machdep.cpu.brand_string"]),
            memory_bytes=read_memory().total_bytes,
        )
    gpus = _gpus(run)
    if gpus and not _mlx_has_cuda():
        name = gpus[0][0]
        return Found(note=f"a GPU ({name}) is there, but MLX's CUDA build is not: install troupe[cuda]")
    if gpus:
        name, memory_bytes = gpus[0]
        return Found(kind="cuda", name=name, memory_bytes=memory_bytes)
    return Found()


def _gpus(run: Run) -> list[tuple[str, int]]:
    """Name and bytes of memory of each NVIDIA GPU."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    found: list[tuple[str, int]] = []
    for line in run(query).splitlines():
        name, _, mebibytes = line.rpartition(",")
        if mebibytes.strip().isdigit():
            found.append((name.strip(), int(mebibytes) * 2**20))
    return found


def _mlx_has_cuda() -> bool:
    return any(_installed(package) for package in CUDA_PACKAGES)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
