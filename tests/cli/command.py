"""Runs `actors` as people do: a process of its own."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

HERE = Path(__file__).parents[2]


class Ran(Struct, frozen=True):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


def environment(home: Path | None = None) -> dict[str, str]:
    """A clean environment: no settings of whoever runs the tests, wide enough that no table is folded."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TROUPE_")}
    return {**kept, "PYTHONPATH": str(HERE), "COLUMNS": "250", **({"HOME": str(home)} if home else {})}


async def actors(*arguments: str, typed: str = "", home: Path | None = None, **more: str) -> Ran:
    """Run `actors ARGUMENTS`; `home` is where ~ is, `more` are variables."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "actors.cli", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(home), **more},
        cwd=home or HERE,
    )
    out, err = await asyncio.wait_for(process.communicate(typed.encode()), 60)
    return Ran(process.returncode or 0, out.decode(), err.decode())
