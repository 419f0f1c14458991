"""Qwen3-Coder and those like it: `<function=name><parameter=key>value</parameter></function>` in `<tool_call>`."""

import json
import re
from typing import Any, cast

from api.tool_format import Head, HeadRead, Schema, Spell, ToolFormat, Tools
from api.tool_hermes import CLOSE, OPEN
from api.tool_json import NEWLINE, closed, literal

_FUNCTION = re.compile(r"\s*<function=([^<>\s]{1,256})>")
_MAY_BEGIN = re.compile(r"\s*(?P<mark><[a-z]*(?:=[^<>\s]{0,256})?)?")
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_UNFINISHED = re.compile(r"\s*<parameter=([^<>\n]+)>\n?(.*)", re.DOTALL)
_END = re.compile(r"\s*</function>")


def head(text: str, tools: Tools) -> HeadRead:
    """`<function=name>`."""
    if begun := _FUNCTION.match(text):
        return Head(begun[1], begun.end(), XmlBody(tools.get(begun[1], {})))
    may = _MAY_BEGIN.fullmatch(text)
    name, equals, _ = (may["mark"] or "").partition("=") if may else ("no", "", "")
    fits = name == "<function" if equals else "<function".startswith(name)
    return "wait" if fits else "no"


class XmlBody:
    """Parameters one by one; what their schema does not call a string is JSON, if it can be read as such."""

    def __init__(self, schema: Schema) -> None:
        self._properties = _properties(schema)
        self._held = ""
        self._count = 0

    def read(self, text: str) -> tuple[str, int | None]:
        before, self._held = len(self._held), self._held + text
        at, pieces = 0, ""
        while parameter := _PARAMETER.match(self._held, at):
            pieces += self._key(parameter[1]) + self._value(parameter[1], parameter[2])
            at = parameter.end()
        if end := _END.match(self._held, at):
            self._held = ""
            return pieces + ("}" if self._count else "{}"), end.end() - before
        self._held = self._held[at:]
        return pieces, None

    def end(self) -> str:
        """A value that was cut off, as other families would have sent it."""
        if cut := _UNFINISHED.match(self._held):
            return self._key(cut[1]) + json.dumps(cut[2], ensure_ascii=False)[:-1]
        return ""

    def _key(self, key: str) -> str:
        self._count += 1
        return f"{', ' if self._count > 1 else '{'}{json.dumps(key, ensure_ascii=False)}: "

    def _value(self, key: str, value: str) -> str:
        if "string" in _types(self._properties.get(key)) and value != "null":
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
