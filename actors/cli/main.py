"""Runs one command and turns what goes wrong into a sentence and an exit code."""

import logging
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

import structlog
import typer

from actors.cli.app import app
from actors.cli.failure import FAILED, INTERRUPTED, USAGE
from actors.machine.data_folder import DataFolderError
from actors.model_wish import UnknownModel
from actors.setting_sources import SettingsError
from actors.settings import wants_tracebacks
from bus.errors import BusError

DEBUG = "--debug"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given or wants_tracebacks()
    _quiet(debug)
    sys.excepthook = _last_words
    try:
        return _run([argument for argument in given if argument != DEBUG])
    except (typer.TyperException, SettingsError, DataFolderError, UnknownModel, BusError) as failure:
        if debug:
            traceback.print_exception(failure)
        return _said(failure)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read has left; nothing more to say
        return FAILED


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="actors", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _said(failure: Exception) -> int:
    code = (
        USAGE if isinstance(failure, SettingsError | UnknownModel) else getattr(failure, "exit_code", FAILED)
    )
    sentence = failure.format_message() if isinstance(failure, typer.TyperException) else str(failure)
    hint = " (see `actors COMMAND --help`)" if code == USAGE else ""
    if sentence:
        begin = sentence[:1].lower() if sentence[1:2].islower() else sentence[:1]  # not that of TLS
        print(f"actors: {begin}{sentence[1:]}{hint}", file=sys.stderr)
    return code


def _quiet(debug: bool) -> None:
    """What the bus logs is of no interest to a person who asked for a table; `actors up` sets up its own."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _last_words(kind: type[BaseException], failure: BaseException, trace: TracebackType | None) -> None:
    """A mistake of ours is one sentence as well, unless somebody wants to see all of it."""
    if wants_tracebacks() or DEBUG in sys.argv:
        traceback.print_exception(kind, failure, trace)
        return
    print(f"actors: this is a bug: {kind.__name__}: {failure} (--debug shows where)", file=sys.stderr)
