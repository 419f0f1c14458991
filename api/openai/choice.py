"""One choice of an answer that is sent whole: its pieces, put together."""

from collections.abc import Iterable

from api.generation import Piece
from api.reading.events import AnswerEvent, CallArguments, CallBegan, Said, Thought
from api.text.alignment import Shown
from api.text.answer import Finish
from schemas.tools import CalledFunction, ToolCall


class Words:
    """All that was said, thought and called in one choice."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[tuple[CallBegan, list[str]]] = []
        self.shown: list[Shown] = []
        self.finish: Finish = "stop"

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def thought(self) -> str:
        return "".join(self._thoughts)

    @property
    def calls(self) -> list[ToolCall]:
        return [
            ToolCall(call.id, CalledFunction(call.name, "".join(arguments)))
            for call, arguments in self._calls
        ]

    def add(self, piece: Piece) -> None:
        self._texts.append(piece.text)
        self.shown += piece.shown
        self.finish = piece.finish or self.finish
        for event in piece.events:
            self._take(event)

    def _take(self, event: AnswerEvent) -> None:
        match event:
            case Said():
                self._texts.append(event.text)
            case Thought():
                self._thoughts.append(event.text)
            case CallBegan():
                self._calls.append((event, []))
            case CallArguments():
                self._calls[event.index][1].append(event.piece)


def put_together(choices: int, pieces: Iterable[Piece]) -> list[Words]:
    """`choices` choices, by their indices."""
    words = [Words() for _ in range(choices)]
    for piece in pieces:
        words[piece.choice].add(piece)
    return words
