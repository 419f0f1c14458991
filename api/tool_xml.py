"""Qwen3-Coder and those like it: `<function=name><parameter=key>value</parameter></function>` in `<tool_call>`."""

import json
import re
from typing import Any, cast

from api.marker import beginning_of
from api.tool_format import Head, HeadRead, Schema, Spell, ToolFormat, Tools
from api.tool_hermes import CLOSE, OPEN
from api.tool_json import NEWLINE, closed, literal

_FUNCTION = re.compile(r"\s*<function=([^<>\s]{1,256})>")
_MAY_BEGIN = re.compile(r"\s*(?P<mark><[a-z]*(?:=[^<>\s]{0,256})?)?")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]{1,256})>\n?")
_MAY_BE_PARAMETER = re.compile(r"<parameter=[^<>\n]{0,256}>?")
_END = re.compile(r"\s*</function>")
VALUE_END = "</parameter>"
STRING = ["string"]


def head(text: str, tools: Tools) -> HeadRead:
    """`<function=name>`."""
    if begun := _FUNCTION.match(text):
        return Head(begun[1], begun.end(), XmlBody(tools.get(begun[1], {})))
    may = _MAY_BEGIN.fullmatch(text)
    name, equals, _ = (may["mark"] or "").partition("=") if may else ("no", "", "")
    fits = name == "<function" if equals else "<function".startswith(name)
    return "wait" if fits else "no"


class XmlBody:
    """Parameters one by one; what their schema does not call a string is JSON, if it can be read as such.

    Strings are handed on as they come. Whatever is neither a parameter nor the end, ends the call.
    """

    def __init__(self, schema: Schema) -> None:
        self._properties = _properties(schema)
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
        return _escaped(self._held) if self._types == STRING else _escaped(self._held, begin='"')

    def _between(self) -> tuple[str, bool, bool]:
        """What it makes, whether there may be more to read, and whether the call is over."""
        if end := _END.match(self._held):
            self._held = self._held[end.end() :]
            return "", False, True
        if _may_go_on(self._held.lstrip()):
            return "", False, False
        parameter = _PARAMETER.match(self._held)
        if parameter is None:
            return "", False, True
        self._held, self._seen = self._held[parameter.end() :], 0
        self._types = _types(self._properties.get(parameter[1]))
        return self._key(parameter[1]) + ('"' if self._types == STRING else ""), True, False

    def _value(self, types: list[str]) -> tuple[str, bool, bool]:
        found = self._held.find(VALUE_END, self._seen)
        if found >= 0:
            value, self._held = self._held[:found].removesuffix("\n"), self._held[found + len(VALUE_END) :]
            self._types = None
            return (_escaped(value, end='"') if types == STRING else _json(types, value)), True, False
        held = max(beginning_of(VALUE_END, self._held), beginning_of("\n" + VALUE_END, self._held))
        certain = len(self._held) - held
        if types != STRING:
            self._seen = certain
            return "", False, False
        words, self._held = self._held[:certain], self._held[certain:]
        return _escaped(words), False, False

    def _key(self, key: str) -> str:
        self._count += 1
        return f"{', ' if self._count > 1 else '{'}{json.dumps(key, ensure_ascii=False)}: "


def _may_go_on(rest: str) -> bool:
    """Whether it is the beginning of a parameter's tag or of the end."""
    marks = ("<parameter=", "</function>")
    return any(mark.startswith(rest) for mark in marks) or _MAY_BE_PARAMETER.fullmatch(rest) is not None


def _escaped(text: str, begin: str = "", end: str = "") -> str:
    """As it stands in a JSON string."""
    return begin + json.dumps(text, ensure_ascii=False)[1:-1] + end


def _json(types: list[str], value: str) -> str:
    """Of a value that need not be a string."""
    if "string" in types and value != "null":
        return json.dumps(value, ensure_ascii=False)
    lowered = {"True": "true", "False": "false", "None": "null"}.get(value.strip(), value.strip())
    try:
        json.loads(lowered)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return lowered


def _properties(schema: Schema) -> dict[str, Any]:
    found = schema.get("properties")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _types(schema: Any) -> list[str]:
    """The types that a property may have; one that says nothing is a string."""
    if not isinstance(schema, dict):
        return ["string"]
    told = cast("dict[str, Any]", schema)
    if _texts(told):
        return ["string"]
    found = told.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def _texts(schema: dict[str, Any]) -> list[str]:
    """The strings that a property must be one of, if it is so."""
    choices = schema.get("enum", [])
    return choices if all(isinstance(choice, str) for choice in choices) else []


def _calls(tools: Tools, parallel: bool, spell: Spell) -> str:
    more = f" ({NEWLINE} one)*" if parallel else ""
    options, rules = zip(*(_function(at, *tool) for at, tool in enumerate(tools.items())), strict=True)
    one = f"one: {spell(OPEN)} {NEWLINE} ({' | '.join(options)}) {NEWLINE} {spell(CLOSE)}\n"
    return f"start: one{more}\n{one}{TEXT}{''.join(rules)}"


TEXT = 'text[suffix="</parameter>"]: /(?s:.*)/\n'


def _function(at: int, name: str, schema: Schema) -> tuple[str, str]:
    """The call of one tool, and the rules that it needs: each parameter in its order, the needless ones left out."""
    schema = closed(schema)
    required, parameters, rules = schema.get("required"), "", ""
    for number, (key, value) in enumerate(_properties(schema).items()):
        rule = f"parameter_{at}_{number}"
        needed = isinstance(required, list) and key in required
        parameters += f" {rule}" if needed else f" {rule}?"
        known = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        rules += f"{rule}: {literal(f'<parameter={key}>')} {NEWLINE} {_value_rule(schema, known)}\n"
    begin = literal(f"<function={name}>")
    return f"{begin} {NEWLINE}{parameters} {literal('</function>')}", rules


def _text(value: dict[str, Any]) -> str:
    """Any text up to the end of the parameter; one whose length is limited has no other tag in it either."""
    if not {"minLength", "maxLength"} & value.keys():
        return "text"
    limits = f"{value.get('minLength', 0)},{value.get('maxLength', '')}"
    return f"/[^<]{{{limits}}}/ {NEWLINE} {literal('</parameter>')}"


def _value_rule(schema: Schema, value: dict[str, Any]) -> str:
    end = f"{NEWLINE} {literal('</parameter>')} {NEWLINE}"
    if texts := _texts(value):
        return f"({' | '.join(literal(text) for text in texts)}) {end}"
    if "string" in _types(value):
        return f"{_text(value)} {NEWLINE}"
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return f"%json {json.dumps({**shared, **value})} {end}"


XML = ToolFormat(
    name="Qwen3-Coder", opener=OPEN, head=head, calls=_calls, tail=(CLOSE,), markers=(OPEN, CLOSE)
)
