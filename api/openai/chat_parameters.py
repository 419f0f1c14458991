"""Reads the body of a chat request."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET

from api.errors import bad_request
from api.openai.grammars import grammar
from api.openai.tool_parameters import check_calls, check_choice, check_grammar, check_tools
from api.parameters import Neutral, check_asked, decode, require_neutral
from api.wish import Wish, wish
from schemas.chat import ChatRequest, Message, Part

_FUNCTIONS = "functions were replaced by tools: send those"
_OUTPUT = "only text is generated"
_MEDIA = "only text content is read"

NEUTRAL: dict[str, Neutral] = {
    "audio": Neutral((None,), _OUTPUT),
    "function_call": Neutral((None, "none", "auto"), _FUNCTIONS),
    "functions": Neutral((None, []), _FUNCTIONS),
    "modalities": Neutral((None, ["text"]), _OUTPUT),
    "moderation": Neutral((None,), "there is no moderation"),
    "prediction": Neutral((None,), "predicted outputs are not built"),
    "prompt_cache_options": Neutral((None,), "prefix caching cannot be steered yet"),
    "prompt_cache_retention": Neutral((None, "in_memory"), "prefixes are kept in memory only"),
    "reasoning_effort": Neutral((None,), "the effort of reasoning cannot be steered yet"),
    "store": Neutral((None, False), "answers are not stored"),
    "verbosity": Neutral((None,), "the length of answers cannot be steered but by max_tokens"),
    "web_search_options": Neutral((None,), "there is no web search"),
}
NEUTRAL_MESSAGE: dict[str, Neutral] = {
    "function_call": Neutral((None,), _FUNCTIONS),
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


def read_chat(body: bytes) -> ChatRequest:
    """The request in `body`, every field of it checked; raises `ApiError`."""
    chat = decode(body, _DECODER)
    require_neutral(chat, NEUTRAL, "")
    if chat.max_tokens is not None and chat.max_completion_tokens is not None:
        raise bad_request(
            "Set 'max_tokens' or 'max_completion_tokens', not both: they mean the same.",
            "max_completion_tokens",
        )
    check_asked(chat, chat.limit)
    if chat.top_logprobs and not chat.logprobs:
        raise bad_request("'top_logprobs' is only allowed when 'logprobs' is true.", "top_logprobs")
    check_messages(chat.messages)
    check_tools(chat.tools or [])
    check_choice(chat)
    return chat


def chat_wish(chat: ChatRequest, headers: Mapping[str, str]) -> Wish:
    """What the chat asks of its model; raises `ApiError`."""
    logprobs = (chat.top_logprobs or 0) if chat.logprobs else None
    kept = grammar(chat, chat.response_format)
    check_grammar(chat, kept)
    wanted = wish(chat, headers, chat.limit, logprobs, kept)
    return msgspec.structs.replace(
        wanted,
        endpoint="chat.completions",
        user=chat.user or chat.safety_identifier or "",
        metadata=chat.metadata or {},
    )


def check_messages(messages: list[Message]) -> None:
    """Raises `ApiError` with the path of the first field that is not honoured."""
    called: set[str] = set()
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]", called)


def _check_message(message: Message, path: str, called: set[str]) -> None:
    if message.role == "function":
        raise bad_request(f"'{path}.role' cannot be 'function': {_FUNCTIONS}.", f"{path}.role")
    require_neutral(message, NEUTRAL_MESSAGE, f"{path}.")
    check_calls(message, path, called)
    if message.name is not None and message.role != "tool":
        raise bad_request(
            f"'{path}.name' is not supported: names of participants are not given to the model.",
            f"{path}.name",
            "unsupported_parameter",
        )
    if message.content is None and not message.tool_calls:
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
