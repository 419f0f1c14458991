"""How a command fails: a sentence on stderr and an exit code."""

from typer import TyperException

FAILED = 1
USAGE = 2
NO_CLUSTER = 3
INTERRUPTED = 130


class CommandFailed(TyperException):
    """A command could not do what it was asked; the message says why, and the way out."""

    def __init__(self, sentence: str, exit_code: int = FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
