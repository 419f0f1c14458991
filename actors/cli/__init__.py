"""The command line: `actors up`, `actors status`, ...; one file a group of commands."""

from actors.cli.main import main

__all__ = ["main"]
