"""Finds the calls of tools in a text that comes in pieces."""

import json
from collections.abc import Callable
from enum import Enum, auto
from random import Random, SystemRandom
from string import ascii_letters, digits

from api.reading.events import AnswerEvent, CallArguments, CallBegan, Said
from api.reading.marker import beginning_of
from api.tools.format import Body, ToolFormat, Tools
from api.tools.json_scan import JsonScan

_RANDOM = SystemRandom()


class _At(Enum):
    """Where in an answer the reader is."""

    BEGINNING = auto()
    TEXT = auto()
    HEAD = auto()
    ARGUMENTS = auto()
    CLOSE = auto()
    TAIL = auto()


class ToolReader:
    """Calls begin when their name is certain and their arguments follow; what becomes no call is text.

    How the text is cut into pieces makes no difference. Nothing is lost but the format's own marks and the space
    around calls.
    """

    def __init__(self, written: ToolFormat, tools: Tools, new_id: Callable[[], str] | None = None) -> None:
        self.calls = 0
        """How many have begun."""
        self._format = written
        self._tools = tools
        self._new_id = new_id or (lambda: new_call_id(written))
        self._at = _At.BEGINNING if written.bare else _At.TEXT
        self._held = ""
        self._mark = ""
        """What was taken for the mark of a call, with the space before it."""
        self._body: Body | None = None
        self._in_object = False
        self._tail: tuple[str, ...] = ()
        self._quiet = False
        """Nothing was said since the last call."""
        self._events: list[AnswerEvent] = []
        self._reads: dict[_At, Callable[[], bool]] = {
            _At.BEGINNING: self._beginning,
            _At.TEXT: self._text,
            _At.HEAD: self._head,
            _At.ARGUMENTS: self._arguments,
            _At.CLOSE: self._close,
            _At.TAIL: self._after,
        }

    @property
    def called(self) -> bool:
        """The arguments of a call are whole, and no other call has begun: a good place to end."""
        return self.calls > 0 and self._at not in {_At.HEAD, _At.ARGUMENTS}

    def add(self, text: str) -> list[AnswerEvent]:
        """What is certain now that `text` has come."""
        self._held += text
        while self._held and self._reads[self._at]():
            pass
        return self._taken()

    def end(self) -> list[AnswerEvent]:
        """What was held back, now that nothing follows."""
        match self._at:
            case _At.HEAD:
                self._say(self._mark + self._held)
            case _At.ARGUMENTS if self._body is not None:
                self._argue(self._body.end())
            case _At.CLOSE:
                self._say("" if self._held.isspace() else self._held)
            case _At.TAIL | _At.ARGUMENTS:
                pass
            case _:
                self._say("" if self._quiet and self._held.isspace() else self._held)
        self._held = ""
        return self._taken()

    # Each of these reads on in what is held, and says whether to try again.

    def _beginning(self) -> bool:
        """A JSON object may be a call though nothing stands before it."""
        rest = self._held.lstrip()
        if not rest:
            return False
        self._at = _At.TEXT
        if rest.startswith("{"):
            self._open(self._held[: -len(rest)], rest)
        return True

    def _text(self) -> bool:
        opener = self._format.opener
        found = self._held.find(opener)
        if found >= 0:
            words = self._held[:found].rstrip()
            self._say(words)
            self._open(self._held[len(words) : found + len(opener)], self._held[found + len(opener) :])
            return True
        certain = self._held[: len(self._held) - beginning_of(opener, self._held)].rstrip()
        self._say(certain)
        self._held = self._held[len(certain) :]
        return False

    def _head(self) -> bool:
        head = self._format.head(self._held, self._tools)
        if head == "wait":
            return False
        if head == "no":
            self._say(self._mark)
            self._at = _At.TEXT
            return True
        self._events.append(CallBegan(self.calls, head.id or self._new_id(), head.name))
        self.calls += 1
        self._quiet = True
        self._body, self._in_object = head.body, head.in_object
        self._held, self._at = self._held[head.size :], _At.ARGUMENTS
        return True

    def _arguments(self) -> bool:
        assert self._body is not None, "a head brings one"
        piece, rest = self._body.read(self._held)
        self._argue(piece)
        self._held = rest or ""
        if rest is not None:
            self._tail = self._format.tail
            self._at = _At.CLOSE if self._in_object else _At.TAIL
        return rest is not None

    def _close(self) -> bool:
        """The object around the arguments ends; it may say more, which is no more than form."""
        rest = self._held.lstrip()
        if not rest:
            return False
        end = None
        if rest[0] in ",}":
            end = JsonScan(depth=1).end(self._held)
            if end is None:
                return False
        self._at = _At.TAIL
        if end is not None and _is_rest(self._held[:end]):
            self._held = self._held[end:]
        return True

    def _after(self) -> bool:
        """Takes the marks that end a call, until something else comes."""
        rest = self._held.lstrip()
        if not rest:
            return False
        again = self._format.again
        if again and rest.startswith(again):
            self._open(self._held[: -len(rest)] + again, rest[len(again) :])
            return True
        for at, mark in enumerate(self._tail):
            if rest.startswith(mark):
                self._held, self._tail = rest[len(mark) :], self._tail[at + 1 :]
                return True
        if any(mark.startswith(rest) for mark in (*self._tail, again) if mark):
            return False
        self._at = _At.TEXT
        return True

    def _open(self, mark: str, rest: str) -> None:
        self._mark, self._held, self._at = mark, rest, _At.HEAD

    def _say(self, text: str) -> None:
        if text:
            self._quiet = False
            self._events.append(Said(text))

    def _argue(self, piece: str) -> None:
        if piece:
            self._events.append(CallArguments(self.calls - 1, piece))

    def _taken(self) -> list[AnswerEvent]:
        events, self._events = self._events, []
        return events


def call_ids(written: ToolFormat, name: str) -> Callable[[], str]:
    """One after the other for the calls of the answer `name`; another actor that reads it makes the same."""
    random = Random(name)  # they only tell calls apart
    return lambda: new_call_id(written, random)


def new_call_id(written: ToolFormat, random: Random = _RANDOM) -> str:
    """As OpenAI's look, or as Mistral's templates want them."""
    letters = "".join(random.choices(ascii_letters + digits, k=written.id_chars))
    return letters if written.id_chars < 16 else f"call_{letters}"


def _is_rest(text: str) -> bool:
    """Whether it ends a JSON object that something stands in."""
    try:
        json.loads('{"":0' + text)
    except (ValueError, RecursionError):
        return False
    return True
