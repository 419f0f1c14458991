"""What commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {
    "ready": "green",
    "alive": "green",
    "ok": "green",
    "failed": "red",
    "fail": "red",
    "lost": "red",
    "warn": "yellow",
    "waiting": "yellow",
}
PIPE_WIDTH = 500
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One document; indented for a terminal, one line for a pipe."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded)
    print(encoded.decode(), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], empty: str) -> None:
    """A table, or a sentence when there are no rows; a pipe gets its lines whole, a terminal gets them folded."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if table.row_count:
        Console(highlight=False, width=None if out.is_terminal else PIPE_WIDTH).print(table)
    else:
        out.print(empty)


def coloured(word: str, more: str = "") -> Text:
    """A status in its colour, with more to say behind it."""
    return Text.assemble((word, COLOURS.get(word, "cyan")), more)
