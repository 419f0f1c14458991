"""`response_format` and `guided_...` as the one grammar that an answer keeps to."""

import re

import msgspec
from msgspec import UNSET, Raw

from api.errors import ApiError, bad_request
from schemas.openai import Asked, JsonObjectFormat, JsonSchemaFormat, ResponseFormat
from schemas.task import Grammar

ANY_OBJECT = '{"type":"object"}'
MAX_SOURCE = 128 * 1024
"""Characters: a task travels in one message."""

Named = tuple[str, Grammar]
"""What the client called it, and the grammar."""


def grammar(asked: Asked, answer_format: ResponseFormat | None) -> Named | None:
    """The grammar of an answer, if it is to have one; raises `ApiError` when two were asked for."""
    named = [each for each in (_of_format(answer_format), *_guided(asked)) if each is not None]
    if len(named) > 1:
        (first, _), (second, _), *_ = named
        raise bad_request(f"'{first}' and '{second}' cannot both be kept to: send one of them.", second)
    if named and len(named[0][1].source) > MAX_SOURCE:
        raise bad_request(f"'{named[0][0]}' is longer than {MAX_SOURCE} characters.", named[0][0])
    return named[0] if named else None


def _of_format(answer_format: ResponseFormat | None) -> Named | None:
    match answer_format:
        case JsonObjectFormat():
            return "response_format", Grammar(kind="json_schema", source=ANY_OBJECT)
        case JsonSchemaFormat(json_schema=wanted):
            source = _json(wanted.schema) or "{}"
            if not source.startswith("{"):
                raise _no_schema("response_format.json_schema.schema")
            return "response_format", Grammar(kind="json_schema", source=source)
        case _:
            return None


def _guided(asked: Asked) -> list[Named | None]:
    regex, choice, lark = asked.guided_regex, asked.guided_choice, asked.guided_grammar
    return [
        _guided_json(asked),
        None if regex is None else ("guided_regex", Grammar(kind="regex", source=regex)),
        None if lark is None else ("guided_grammar", Grammar(kind="lark", source=lark)),
        None if choice is None else ("guided_choice", Grammar(kind="regex", source=one_of(choice))),
    ]


def _guided_json(asked: Asked) -> Named | None:
    """An object, or, as vLLM takes it too, a string that holds one."""
    source = _json(asked.guided_json)
    if source is None:
        return None
    if source.startswith('"'):
        source = msgspec.json.decode(source, type=str).strip()
    if not source.startswith("{"):
        raise _no_schema("guided_json")
    return "guided_json", Grammar(kind="json_schema", source=source)


def _json(raw: Raw | object) -> str | None:
    """JSON as it came, checked; None for `null` and for nothing."""
    if raw is UNSET or not isinstance(raw, Raw):
        return None
    text = bytes(raw).decode().strip()
    return None if text == "null" else text


def one_of(choices: list[str]) -> str:
    """A regular expression that only these match."""
    return "|".join(re.escape(choice) for choice in choices)


def _no_schema(param: str) -> ApiError:
    return bad_request(f"'{param}' must be a JSON schema: an object.", param, "invalid_type")
