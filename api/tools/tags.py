"""Calls whose parameters stand between tags, one by one: how they are read and forced."""

import json
import re
from collections.abc import Callable
from typing import Any, cast

from msgspec import Struct

from api.reading.marker import beginning_of
from api.tools.format import Schema, Tools
from api.tools.json_calls import NEWLINE, closed, literal
from api.tools.tag_values import STRING, as_json, escaped, properties, texts, types


class Tags(Struct, frozen=True, kw_only=True):
    """One family's."""

    opening: Callable[[str], str]
    """Of the parameter of this name."""
    parameter: re.Pattern[str]
    """The same with any name, its first group."""
    may_be: re.Pattern[str]
    """Whatever may become it, and is it not yet."""
    value_end: str
    end: str
    """Of the call."""
    newline: str = ""
    """What stands before `value_end` and is no part of the value."""


class TagsBody:
    """What the schema does not call a string is JSON, if it can be read as such.

    Strings are handed on as they come. Whatever is neither a parameter nor the end, ends the call.
    """

    def __init__(self, tags: Tags, schema: Schema) -> None:
        self._tags = tags
        self._properties = properties(schema)
        self._held = ""
        self._count = 0
        self._types: list[str] | None = None
        """Of the parameter whose value is read; None between parameters."""
        self._seen = 0
        """Up to here the held value has no end."""

    def read(self, text: str) -> tuple[str, str | None]:
        self._held += text
        pieces = ""
        while True:
            piece, again, over = self._between() if self._types is None else self._value(self._types)
            pieces += piece
            if over:
                return pieces + ("}" if self._count else "{}"), self._held
            if not again:
                return pieces, None

    def end(self) -> str:
        """A value that was cut off, as other families would have sent it."""
        if self._types is None:
            return ""
        return escaped(self._held, begin="" if self._types == STRING else '"')

    def _between(self) -> tuple[str, bool, bool]:
        """What it makes, whether there may be more to read, and whether the call is over."""
        rest, end = self._held.lstrip(), self._tags.end
        if rest.startswith(end):
            self._held = rest[len(end) :]
            return "", False, True
        if end.startswith(rest) or self._tags.may_be.fullmatch(rest):
            return "", False, False
        parameter = self._tags.parameter.match(rest)
        if parameter is None:
            return "", False, True
        self._held, self._seen = rest[parameter.end() :], 0
        self._types = types(self._properties.get(parameter[1]))
        return self._key(parameter[1]) + ('"' if self._types == STRING else ""), True, False

    def _value(self, kinds: list[str]) -> tuple[str, bool, bool]:
        end, newline = self._tags.value_end, self._tags.newline
        found = self._held.find(end, self._seen)
        if found >= 0:
            value, self._held = self._held[:found].removesuffix(newline), self._held[found + len(end) :]
            self._types = None
            return (escaped(value, end='"') if kinds == STRING else as_json(kinds, value)), True, False
        held = max(beginning_of(end, self._held), beginning_of(newline + end, self._held))
        certain = len(self._held) - held
        if kinds != STRING:
            self._seen = certain
            return "", False, False
        words, self._held = self._held[:certain], self._held[certain:]
        return escaped(words), False, False

    def _key(self, key: str) -> str:
        self._count += 1
        return f"{', ' if self._count > 1 else '{'}{json.dumps(key, ensure_ascii=False)}: "


def parameters_rules(tags: Tags, tools: Tools) -> str:
    """Lark: `parameters_0`, `parameters_1` ... in the order of the tools, with a line's end after each parameter."""
    rules = "".join(_parameters(tags, at, closed(schema)) for at, schema in enumerate(tools.values()))
    return f"text[suffix={literal(tags.value_end)}]: /(?s:.*)/\n{rules}"


def _parameters(tags: Tags, at: int, schema: Schema) -> str:
    """Each in its order; those that are not required may be left out."""
    required, order, rules = schema.get("required"), '""', ""
    for number, (key, value) in enumerate(properties(schema).items()):
        rule = f"parameter_{at}_{number}"
        order += f" {rule}" if isinstance(required, list) and key in required else f" {rule}?"
        known = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        rules += f"{rule}: {literal(tags.opening(key))} {_value_rule(tags, schema, known)} {NEWLINE}\n"
    return f"parameters_{at}: {order}\n{rules}"


def _value_rule(tags: Tags, schema: Schema, value: dict[str, Any]) -> str:
    """A text whose length is limited has no other tag in it; of other limits of texts nothing is kept."""
    end = literal(tags.newline + tags.value_end)
    if choices := texts(value):
        return f"({' | '.join(literal(text) for text in choices)}) {end}"
    if {"minLength", "maxLength"} & value.keys() and "string" in types(value):
        return f"/[^<]{{{value.get('minLength', 0)},{value.get('maxLength', '')}}}/ {end}"
    if "string" in types(value):
        return "text"
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return f"%json {json.dumps({**shared, **value})} {end}"
