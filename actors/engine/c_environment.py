"""The environment that C libraries of this process see; Python's `os.environ` never does."""

import ctypes


def set_for_c(**variables: str) -> None:
    """From now on; where a library has read a variable already, this comes too late."""
    libc = ctypes.CDLL(None)
    for name, value in variables.items():
        libc.setenv(name.encode(), value.encode(), 1)
