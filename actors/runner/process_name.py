"""What `ps` and `top` call this process: runners and spares are the same program."""

from contextlib import suppress
from pathlib import Path
from typing import Literal

ProcessName = Literal["troupe-runner", "troupe-spare"]
OWN = Path("/proc/self/comm")


def take_name(name: ProcessName) -> None:
    """On Linux, by the main thread; elsewhere both are called as their interpreter is."""
    with suppress(OSError):
        OWN.write_text(name)
