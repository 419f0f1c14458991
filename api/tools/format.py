"""How a family of models writes its calls of tools: what a reader and a grammar need to know of it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from msgspec import Struct

from api.tools.json_scan import JsonScan

Schema = Mapping[str, Any]
Tools = Mapping[str, Schema]
"""Names to the JSON schemas of their parameters."""

Spell = Callable[[str], str]
"""A marker as Lark writes it: as text, or as a control token where the tokenizer has such a one."""


class Body(Protocol):
    """Reads the arguments of one call, a piece at a time."""

    def read(self, text: str) -> tuple[str, str | None]:
        """JSON of the arguments as far as it is certain, and what is left after their end; None: they go on."""
        ...

    def end(self) -> str:
        """What was held when the answer ended."""
        ...


class Head(Struct, frozen=True):
    """A call has begun: its arguments follow after `size` characters."""

    name: str
    size: int
    body: Body
    id: str = ""
    """The model's own, if it gave one."""
    in_object: bool = False
    """The arguments stand in a JSON object, which ends after them."""


HeadRead = Head | Literal["wait", "no"]
"""`wait`: it may become a call; `no`: it is text, whatever follows."""


class ToolFormat(Struct, frozen=True, kw_only=True):
    """One family's way to call tools."""

    name: str
    opener: str
    """What stands before a call."""
    head: Callable[[str, Tools], HeadRead]
    """Reads what comes after the opener; looks at the beginning of it only."""
    calls: Callable[[Tools, bool, Spell], str]
    """Lark rules for one call or, if parallel, several: `start`, and what it needs."""
    tail: tuple[str, ...] = ()
    """What may stand after a call, in this order, with space around it."""
    again: str = ""
    """What stands between two calls that one opener opens."""
    bare: bool = False
    """A JSON object at the beginning of an answer is a call, without an opener, if it names a tool that there is."""
    markers: tuple[str, ...] = ()
    """Texts that may be control tokens: the detokenizer must show them."""
    id_chars: int = 24
    """Length of a call's id; with Mistral's 9 there is no `call_` before it."""


class JsonBody:
    """Arguments that are written as JSON."""

    def __init__(self) -> None:
        self._scan = JsonScan()

    def read(self, text: str) -> tuple[str, str | None]:
        end = self._scan.end(text)
        return (text, None) if end is None else (text[:end], text[end:])

    def end(self) -> str:
        return ""


class WholeBody:
    """Arguments that were there before the call's name was."""

    def __init__(self, arguments: str) -> None:
        self._arguments = arguments

    def read(self, text: str) -> tuple[str, str | None]:
        return self._arguments, text

    def end(self) -> str:
        return ""
