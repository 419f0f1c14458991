"""Values that stand between tags: text where the schema says string, JSON elsewhere."""

import json
from typing import Any, cast

from api.tools.format import Schema

STRING = ["string"]


def properties(schema: Schema) -> dict[str, Any]:
    """The schemas of an object's properties; none where there is no saying."""
    found = schema.get("properties")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def types(schema: Any) -> list[str]:
    """The types that a property may have; one that says nothing is a string."""
    if not isinstance(schema, dict):
        return STRING
    told = cast("dict[str, Any]", schema)
    if texts(told):
        return STRING
    found = told.get("type")
    if isinstance(found, list):
        return [str(each) for each in cast("list[Any]", found)]
    return [found] if isinstance(found, str) else []


def texts(schema: dict[str, Any]) -> list[str]:
    """The strings that a property must be one of, if it is so."""
    found = schema.get("enum")
    choices = cast("list[Any]", found) if isinstance(found, list) else []
    return choices if all(isinstance(choice, str) for choice in choices) else []


def escaped(text: str, begin: str = "", end: str = "") -> str:
    """As it stands in a JSON string."""
    return begin + json.dumps(text, ensure_ascii=False)[1:-1] + end


def as_json(kinds: list[str], value: str) -> str:
    """Of a value that need not be a string."""
    if "string" in kinds and value != "null":
        return json.dumps(value, ensure_ascii=False)
    lowered = {"True": "true", "False": "false", "None": "null"}.get(value.strip(), value.strip())
    try:
        json.loads(lowered)
    except (ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False)
    return lowered
