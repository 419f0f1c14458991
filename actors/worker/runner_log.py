"""What a runner writes to its stderr, on disk: bounded, however long it lives and however many there were."""

from contextlib import suppress
from pathlib import Path

MOST_BYTES = 8 * 1024**2
"""A file that is larger is put aside, in place of the one that was put aside before; bytes."""
MOST_FILES = 64
"""Of instances that are no more, the oldest go."""
ASIDE = ".1"


class RunnerLog:
    """The file of one instance on this node; a full disk must not end a runner, so that what cannot be kept is not."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_oldest(path, most_files)

    def add(self, line: bytes) -> None:
        """One line, without its end."""
        with suppress(OSError):
            with self._path.open("ab") as kept:
                kept.write(line + b"\n")
                size = kept.tell()
            if size > self._most_bytes:
                self._path.replace(self._path.with_name(self._path.name + ASIDE))


def _drop_oldest(path: Path, most: int) -> None:
    """`path` has room beside the `most` - 1 that were written to last, of other instances."""
    others = [each for each in path.parent.glob("runner-*.log*") if not each.name.startswith(path.name)]
    for old in sorted(others, key=lambda each: each.stat().st_mtime)[: max(0, len(others) - most + 1)]:
        old.unlink(missing_ok=True)
