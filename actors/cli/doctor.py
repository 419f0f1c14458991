"""`actors doctor`: what is in order on this machine, what is not, and the way out."""

import asyncio
from collections.abc import Iterator

import typer
from rich.text import Text

from actors.cli import screen
from actors.cli.checks import (
    Check,
    check_bus,
    check_compiler,
    check_data_folder,
    check_disk,
    check_engine,
    check_node,
    check_platform,
    check_ports,
    check_python,
    check_server,
)
from actors.cli.cluster import client_settings
from actors.cli.failure import FAILED
from actors.cli.options import Cluster, DataDir, Json, Nats, Where


def doctor(
    nats: Nats = None, cluster: Cluster = None, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """Look at this machine and at the running cluster; exit code 1 when something must be mended."""
    found: list[Check] = []
    for check in _checks(Where(nats, cluster, data_dir)):
        found.append(check)
        if not as_json:
            _show(check)
    if as_json:
        screen.print_json(found)
    if any(check.verdict == "fail" for check in found):
        raise typer.Exit(FAILED)


def _checks(where: Where) -> Iterator[Check]:
    settings = client_settings(where)
    yield check_python()
    yield check_platform()
    yield check_server()
    yield check_data_folder(settings)
    yield check_disk(settings)
    yield check_node(settings)
    bus = asyncio.run(check_bus(where))
    if bus is not None:
        yield bus
    yield from check_ports(settings)
    yield check_compiler()
    yield from check_engine()


def _show(check: Check) -> None:
    marks = {"ok": "✓", "warn": "!", "fail": "✗"}
    mark = Text(f"{marks[check.verdict]} ", style=screen.COLOURS[check.verdict])
    screen.out.print(Text.assemble(mark, f"{check.name:<12} {check.found}"))
    if check.way_out:
        screen.out.print(f"  {'':<12} {check.way_out}", style="dim", markup=False)
