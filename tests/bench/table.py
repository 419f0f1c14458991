"""The rows of one run of the benches: printed as they come, and again together; kept as JSON."""

import json
import platform
import subprocess
import time
from pathlib import Path

import psutil
from msgspec import Struct, to_builtins

RESULTS = Path(__file__).parents[2] / "bench-results.json"


class Row(Struct, frozen=True):
    """One figure; `aim` is what it should be, `note` how it came about."""

    group: str
    what: str
    value: str
    aim: str = ""
    note: str = ""


class Table:
    """All rows of one session."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._load = psutil.getloadavg()[0]

    def add(self, group: str, what: str, value: str, aim: str = "", note: str = "") -> None:
        row = Row(group, what, value, aim, note)
        self._rows.append(row)
        print(f"  {what:<58} {value:>30}  {f'aim {aim}' if aim else '':<18} {note}", flush=True)

    def finish(self) -> None:
        if not self._rows:
            return
        print(f"\n\n{self.markdown()}\n\nAlso in {RESULTS}")
        kept = {"machine": machine(), "load_before": self._load, "rows": to_builtins(self._rows)}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")

    def markdown(self) -> str:
        lines = [machine(), "", "| | Measured | Aim | Note |", "| --- | --- | --- | --- |"]
        group = ""
        for row in self._rows:
            if row.group != group:
                group = row.group
                lines.append(f"| **{group}** | | | |")
            lines.append(f"| {row.what} | {row.value} | {row.aim} | {row.note} |")
        return "\n".join(lines)


def machine() -> str:
    """What the figures were measured on, and at which commit."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, commit {git.stdout.strip() or 'unknown'}, "
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, load average {psutil.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
