"""Calls that are JSON objects: `{"name": ..., "arguments": {...}}`, in whatever order and with whatever space."""

import json
import re
from collections.abc import Collection
from typing import Any

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec import json as msgspec_json

from api.tools.format import Head, HeadRead, JsonBody, Schema, Tools, WholeBody
from api.tools.json_scan import JsonScan

MAX_HEAD_CHARS = 64 * 1024
"""A call whose arguments come before its name is held up to here."""
NO_PARAMETERS: Schema = {"type": "object", "properties": {}, "additionalProperties": False}
_STRING = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_TO_NAME = rf'\s*\{{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*({_STRING})'
_NAMED = re.compile(_TO_NAME)
_BEGUN = re.compile(rf'{_TO_NAME}\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_FIRST_KEY = re.compile(r'\s*\{\s*"([^"]*)"')
_FIRST_KEYS = {"name", "arguments", "parameters", "type", "id", "function"}
_MAY_BEGIN = re.compile(r"\s*(?:\{\s*(?:\"[^\"]*)?)?")


class WrittenCall(Struct):
    """A call that was read whole."""

    name: str
    arguments: Raw = Raw(b"{}")
    parameters: Raw = Raw(b"{}")
    id: Any = None


def json_head(text: str, _tools: Tools) -> HeadRead:
    """A call's beginning: its name, and arguments that are an object; else the whole of it."""
    text = text[:MAX_HEAD_CHARS]
    if begun := _BEGUN.match(text):
        name = _name(begun[1])
        return Head(name, begun.end(), JsonBody(), in_object=True) if name else "no"
    if not _may_become(text):
        return "no"
    end = JsonScan().end(text)
    if end is not None:
        return _whole(text[:end], end)
    return "wait" if len(text) < MAX_HEAD_CHARS else "no"


def known_json_head(text: str, tools: Tools) -> HeadRead:
    """The same where nothing else tells a call from JSON: only tools that there are."""
    named = _NAMED.match(text[:MAX_HEAD_CHARS])
    if named and _name(named[1]) not in tools:
        return "no"
    head = json_head(text, tools)
    return "no" if isinstance(head, Head) and head.name not in tools else head


def _may_become(text: str) -> bool:
    if key := _FIRST_KEY.match(text):
        return key[1] in _FIRST_KEYS
    return _MAY_BEGIN.fullmatch(text) is not None


def _name(quoted: str) -> str:
    try:
        name = json.loads(quoted)
    except ValueError:
        return ""
    return name if isinstance(name, str) else ""


def _whole(text: str, size: int) -> HeadRead:
    """The last bracket is left to be read, as it is after streamed arguments."""
    try:
        call = msgspec_json.decode(text, type=WrittenCall)
        arguments = bytes(call.arguments).decode().strip()
        if arguments == "{}":
            arguments = bytes(call.parameters).decode().strip()
        if arguments.startswith('"'):
            arguments = msgspec_json.decode(arguments, type=str).strip() or "{}"
        json.loads(arguments)
    except (DecodeError, ValidationError, ValueError, RecursionError):
        return "no"
    arguments = "{}" if arguments == "null" else arguments
    if not call.name or not arguments.startswith("{"):
        return "no"
    return Head(
        call.name, size - 1, WholeBody(arguments), call.id if isinstance(call.id, str) else "", in_object=True
    )


def json_calls(tools: Tools, key: str) -> str:
    """Lark: `call` is a JSON object with the name of one tool and arguments after its schema."""
    options = [
        " ".join([literal(f'{{"name": {json.dumps(name)}, "{key}": '), f"arguments_{at}", literal("}")])
        for at, name in enumerate(tools)
    ]
    return f"call: {' | '.join(options)}\n" + arguments_rules(tools)


def arguments_rules(tools: Tools) -> str:
    """Lark: `arguments_0`, `arguments_1` ... in the order of the tools."""
    return "".join(
        f"arguments_{at}: %json {json.dumps(closed(schema))}\n" for at, schema in enumerate(tools.values())
    )


def closed(schema: Schema) -> Schema:
    """An object, with only those properties that it lists unless it says otherwise; none listed: no parameters."""
    if not schema:
        return NO_PARAMETERS
    if "properties" not in schema:
        return {"type": "object", **schema}
    return {"type": "object", "additionalProperties": False, **schema}


def literal(text: str) -> str:
    """A text in Lark."""
    return json.dumps(text, ensure_ascii=False)


NEWLINE = literal("\n")


def spelt(marker: str, control: Collection[str]) -> str:
    """A marker in Lark: control tokens have names in angle brackets (actors/engine/token_table.py)."""
    if marker not in control:
        return literal(marker)
    return marker if marker.startswith("<") and marker.endswith(">") else f"<|{marker}|>"
