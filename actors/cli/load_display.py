"""How far a model is, shown while somebody waits: a bar in a terminal, lines elsewhere, nothing for programs."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from actors.cli import screen
from actors.cli.progress import Progress
from actors.cli.rows import stage_words
from actors.cli.units import in_bytes


class Display(Protocol):
    """Shows progress as it comes."""

    def show(self, progress: Progress) -> None: ...


class Silence:
    """For programs: they read the document at the end."""

    def show(self, progress: Progress) -> None:
        """Nothing to see."""


class Lines:
    """For a log or a pipe: one line for each stage."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._last = ""

    def show(self, progress: Progress) -> None:
        if progress.stage not in (self._last, "ready"):
            screen.err.print(f"{self._model}: {progress.stage}{stage_words(progress)}", markup=False)
        self._last = progress.stage


class Live:
    """For a terminal: one line that moves, with a bar while bytes come."""

    def __init__(self, model: str, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task(model, total=None, stage="waiting", bytes="")

    def show(self, progress: Progress) -> None:
        done, total = progress.bytes_done, progress.bytes_total
        self._bar.update(
            self._task,
            completed=done,
            total=total or None,
            stage=progress.stage + stage_words(progress),
            bytes=f"{in_bytes(done)} of {in_bytes(total)}" if total else "",
        )


def live_bar(console: Console) -> Bar:
    """Model, stage, bar, bytes, time."""
    return Bar(
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[stage]}", style="cyan", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[bytes]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def display_for(model: str, as_json: bool) -> Generator[Display]:
    """The display that fits what stderr is."""
    if as_json:
        yield Silence()
    elif screen.err.is_terminal:
        with live_bar(screen.err) as bar:
            yield Live(model, bar)
    else:
        yield Lines(model)
