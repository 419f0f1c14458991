"""One choice of an answer that is sent whole: its pieces, put together."""

from collections.abc import Iterable

from api.alignment import Shown
from api.generation import Finish, Piece


class Said:
    """All that was said in one choice."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self.shown: list[Shown] = []
        self.finish: Finish = "stop"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, piece: Piece) -> None:
        self._texts.append(piece.text)
        self.shown += piece.shown
        self.finish = piece.finish or self.finish


def put_together(choices: int, pieces: Iterable[Piece]) -> list[Said]:
    """`choices` choices, by their indices."""
    said = [Said() for _ in range(choices)]
    for piece in pieces:
        said[piece.choice].add(piece)
    return said
