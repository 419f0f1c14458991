"""Reads the body of a chat request: honoured, or refused with a sentence that names the parameter."""

import re
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import UNSET

from api.errors import ApiError, bad_request
from schemas.openai import ChatRequest, Message, Part, StreamOptions

T = TypeVar("T")


class Neutral(NamedTuple):
    """The values of a parameter that change nothing, and why no other is taken."""

    values: tuple[object, ...]
    why: str


_TOOLS = "tool calls are not built yet"
_OUTPUT = "only text is generated"
_MEDIA = "only text content is read"

NEUTRAL: dict[str, Neutral] = {
    "audio": Neutral((None,), _OUTPUT),
    "frequency_penalty": Neutral((None, 0), "penalties are not built yet"),
    "function_call": Neutral((None, "none", "auto"), _TOOLS),
    "functions": Neutral((None, []), _TOOLS),
    "logit_bias": Neutral((None, {}), "logit biases are not built yet"),
    "logprobs": Neutral((None, False), "log-probabilities are not built yet"),
    "modalities": Neutral((None, ["text"]), _OUTPUT),
    "moderation": Neutral((None,), "there is no moderation"),
    "n": Neutral((None, 1), "more than one choice is not built yet"),
    "parallel_tool_calls": Neutral((None, True, False), _TOOLS),
    "prediction": Neutral((None,), "predicted outputs are not built"),
    "presence_penalty": Neutral((None, 0), "penalties are not built yet"),
    "prompt_cache_options": Neutral((None,), "prefix caching cannot be steered yet"),
    "prompt_cache_retention": Neutral((None, "in_memory"), "prefixes are kept in memory only"),
    "reasoning_effort": Neutral((None,), "the effort of reasoning cannot be steered yet"),
    "response_format": Neutral((None, {"type": "text"}), "structured output is not built yet"),
    "service_tier": Neutral((None, "auto", "default"), "there is one tier"),
    "store": Neutral((None, False), "answers are not stored"),
    "tool_choice": Neutral((None, "none", "auto"), _TOOLS),
    "tools": Neutral((None, []), _TOOLS),
    "top_logprobs": Neutral((None, 0), "log-probabilities are not built yet"),
    "verbosity": Neutral((None,), "the length of answers cannot be steered but by max_tokens"),
    "web_search_options": Neutral((None,), "there is no web search"),
}
NEUTRAL_OPTION: dict[str, Neutral] = {
    "include_obfuscation": Neutral((None, False), "chunks are not padded"),
}
NEUTRAL_MESSAGE: dict[str, Neutral] = {
    "name": Neutral((None,), "names of participants are not given to the model"),
    "tool_calls": Neutral((None, []), _TOOLS),
    "tool_call_id": Neutral((None,), _TOOLS),
    "function_call": Neutral((None,), _TOOLS),
    "refusal": Neutral((None,), "refusals in the history are not given to the model: send them as content"),
    "audio": Neutral((None,), _MEDIA),
    "annotations": Neutral((None, []), "annotations are not given to the model"),
}
NEUTRAL_PART: dict[str, Neutral] = {
    "image_url": Neutral((None,), _MEDIA),
    "input_audio": Neutral((None,), _MEDIA),
    "file": Neutral((None,), _MEDIA),
    "refusal": Neutral((None,), _MEDIA),
    "prompt_cache_breakpoint": Neutral((None,), "prefix caching cannot be steered yet"),
}

_DECODER = msgspec.json.Decoder(ChatRequest)
_SAID = re.compile(r"(?s)(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?")
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


def read_chat(body: bytes) -> ChatRequest:
    """The request in `body`, every field of it checked; raises `ApiError`."""
    request = decode(body, _DECODER)
    require_neutral(request, NEUTRAL, "")
    if request.stream_options is not None:
        _check_stream_options(request, request.stream_options)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise bad_request(
            "Set 'max_tokens' or 'max_completion_tokens', not both: they mean the same.",
            "max_completion_tokens",
        )
    for number, message in enumerate(request.messages):
        _check_message(message, f"messages[{number}]")
    return request


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


def _check_stream_options(request: ChatRequest, options: StreamOptions) -> None:
    require_neutral(options, NEUTRAL_OPTION, "stream_options.")
    if not request.stream:
        raise bad_request("'stream_options' is only allowed when 'stream' is true.", "stream_options")


def _check_message(message: Message, path: str) -> None:
    if message.role in ("tool", "function"):
        raise bad_request(f"'{path}.role' cannot be '{message.role}': {_TOOLS}.", f"{path}.role")
    require_neutral(message, NEUTRAL_MESSAGE, f"{path}.")
    if message.content is None:
        raise bad_request(f"'{path}.content' must be a string or an array of text parts.", f"{path}.content")
    if isinstance(message.content, list):
        for number, part in enumerate(message.content):
            _check_part(part, f"{path}.content[{number}]")


def _check_part(part: Part, path: str) -> None:
    if part.type != "text":
        raise bad_request(f"'{path}.type' cannot be '{part.type[:100]}': {_MEDIA}.", f"{path}.type")
    require_neutral(part, NEUTRAL_PART, f"{path}.")
    if part.text is UNSET:
        raise bad_request(
            f"Missing required parameter: '{path}.text'.", f"{path}.text", "missing_required_parameter"
        )
