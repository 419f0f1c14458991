"""Reads the body of a request: honoured, or refused with a sentence that names the parameter."""

import re
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from api.errors import ApiError, bad_request
from api.openai.beam_parameters import check_beams
from schemas.openai import Asked

T = TypeVar("T")


class Neutral(NamedTuple):
    """The values of a parameter that change nothing, and why no other is taken."""

    values: tuple[object, ...]
    why: str


NEUTRAL_OPTION: dict[str, Neutral] = {
    "include_obfuscation": Neutral((None, False), "chunks are not padded"),
}

_SAID = re.compile(r"(?s)(?P<what>.*?)(?: - at (?:`key` in )?`\$\.?(?P<path>.*)`)?")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_WORDS = {
    "`str`": "a string",
    "`int`": "an integer",
    "`float`": "a number",
    "`bool`": "a boolean",
    "`array`": "an array",
    "`object`": "an object",
    "`null`": "null",
}


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` by `decoder`; raises `ApiError` with the path of what is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise misfit(str(wrong), _names(decoder)) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise bad_request(f"The body is not valid JSON: {broken}.", code="invalid_json") from broken
    except RecursionError as deep:
        raise bad_request("The body is nested too deeply.", code="invalid_json") from deep


def misfit(said: str, names: tuple[str, ...] = ()) -> ApiError:
    """msgspec's sentence about a value as an error with `param`, such as `messages[2].content`."""
    parts = _SAID.fullmatch(said)
    assert parts is not None, "the pattern matches every text"
    what, path = parts["what"], parts["path"] or ""
    field = _FIELD.fullmatch(what)
    if field is not None:
        return _wrong_field(field[1], f"{path}.{field[2]}" if path else field[2], names)
    for word, plain in _WORDS.items():
        what = what.replace(word, plain)
    what = what.replace(" | ", " or ")
    code = "invalid_type" if ", got " in what else "invalid_value"
    where = f"for '{path}'" if path else "for the body"
    return bad_request(f"Invalid {code[8:]} {where}: {what[:1].lower()}{what[1:]}.", path or None, code)


def _wrong_field(complaint: str, param: str, names: tuple[str, ...]) -> ApiError:
    if complaint == "missing required":
        return bad_request(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    nearest = get_close_matches(param, names, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return bad_request(f"Unknown parameter: '{param}'.{hint}", param, "unknown_parameter")


def _names(decoder: msgspec.json.Decoder[T]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(decoder.type))  # type: ignore[arg-type]


def require_neutral(struct: msgspec.Struct, neutral: dict[str, Neutral], path: str) -> None:
    """Raises `ApiError` for the first field of `struct` that would have to change the answer."""
    for name, (values, why) in neutral.items():
        raw = getattr(struct, name)
        if raw is not UNSET and not _is_one_of(raw, values):
            shown = " or ".join(msgspec.json.encode(value).decode() for value in values)
            raise bad_request(
                f"'{path}{name}' is not supported: {why}. Leave it out, or send {shown}.",
                f"{path}{name}",
                "unsupported_parameter",
            )


def _is_one_of(raw: msgspec.Raw, values: tuple[object, ...]) -> bool:
    """By value and kind: 0 is 0.0, but no `false`."""
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in values
    )


def unbuilt_truncation(why: str, instead: str = '"disabled" or "auto"') -> ApiError:
    name = "provider_extensions.truncation"
    what = f"'{name}' is not supported as it is: {why}. Leave it out, or send {instead}."
    return bad_request(what, name, "unsupported_parameter")


def check_asked(asked: Asked, limit: int | None) -> None:
    """What chats and completions have in common; `limit`: most tokens of the answer."""
    check_beams(asked)
    if asked.stream_options is not None:
        require_neutral(asked.stream_options, NEUTRAL_OPTION, "stream_options.")
        if not asked.stream:
            raise bad_request("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    if asked.truncation == "rolling" and asked.use_beam_search:
        raise unbuilt_truncation("a beam search ends with the context")
    if limit is not None and (asked.min_tokens or 0) > limit:
        raise bad_request(
            f"'min_tokens' is {asked.min_tokens}: more than the most that the answer may have, {limit}.",
            "min_tokens",
        )
