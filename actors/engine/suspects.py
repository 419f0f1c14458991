"""Rows of a step that failed: each joins again when the one before it has proved harmless, so that one is to blame."""

from collections import deque

from actors.engine.failure import failure
from actors.engine.row import Row
from schemas.chunks import Chunk


class Suspects:
    """Those who wait to be tried again, and the one that is being tried."""

    def __init__(self) -> None:
        self._waiting: deque[Row] = deque()
        self._tried: Row | None = None

    def __len__(self) -> int:
        self._waiting = deque(row for row in self._waiting if not row.over)
        return len(self._waiting)

    def accuse(self, rows: list[Row], error: BaseException) -> list[Chunk]:
        """These were in a step that failed: the one that was being tried is to blame, or who was alone."""
        chunks: list[Chunk] = []
        for row in rows:
            if row.suspect or len(rows) == 1:
                chunks += row.answer.fail(*failure(error))
            else:
                row.suspect = True
                self._waiting.append(row)
        return chunks

    def next(self) -> Row | None:
        """The next to be tried; none while the last one has not proved harmless."""
        tried = self._tried
        if not len(self) or (tried is not None and tried.suspect and not tried.over):
            return None
        self._tried = self._waiting.popleft()
        return self._tried
