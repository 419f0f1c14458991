"""Reads the body of a completion request."""

from collections.abc import Mapping
from typing import cast

import msgspec

from api.errors import ApiError, bad_request
from api.openai.grammars import grammar
from api.parameters import Neutral, check_asked, decode, require_neutral, unbuilt_truncation
from api.text.prompt import IdsPrompt, RawPrompt, TextPrompt
from api.wish import Wish, wish
from schemas.completions import MAX_CHOICES, CompletionRequest

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, for completions."""
NEUTRAL_COMPLETION: dict[str, Neutral] = {
    "suffix": Neutral((None,), "text cannot be put in between"),
}

_DECODER = msgspec.json.Decoder(CompletionRequest)


def read_completion(body: bytes) -> CompletionRequest:
    """The request in `body`, every field of it checked; raises `ApiError`."""
    asked = decode(body, _DECODER)
    require_neutral(asked, NEUTRAL_COMPLETION, "")
    check_asked(asked, asked.max_tokens or DEFAULT_MAX_TOKENS)
    if asked.truncation == "auto":
        raise unbuilt_truncation("a prompt has no turns that could be left out", '"disabled" or "rolling"')
    if asked.echo and asked.logprobs is not None:
        raise bad_request(
            "'logprobs' is not supported together with 'echo': the log-probabilities of a prompt's tokens "
            "are not computed. Leave one of them out.",
            "logprobs",
            "unsupported_parameter",
        )
    if len(prompts_of(asked)) * asked.choices > MAX_CHOICES:
        raise bad_request(
            f"'prompt' has {len(prompts_of(asked))} prompts, and 'n' is {asked.choices}: at most {MAX_CHOICES} "
            "choices are made of one request.",
            "prompt",
        )
    return asked


def prompts_of(asked: CompletionRequest) -> list[RawPrompt]:
    """One or many; raises `ApiError` when they are of many kinds, or none."""
    prompt = asked.prompt
    if isinstance(prompt, str):
        return [TextPrompt(prompt)]
    kinds = {type(each) for each in prompt}
    if len(kinds) != 1:
        raise _no_prompt("is empty" if not kinds else "mixes texts, token ids and lists of token ids")
    if kinds == {int}:
        return [IdsPrompt(cast("list[int]", prompt))]
    return [
        TextPrompt(each) if isinstance(each, str) else IdsPrompt(cast("list[int]", each)) for each in prompt
    ]


def _no_prompt(what: str) -> ApiError:
    return bad_request(
        f"'prompt' {what}: send a string, a list of strings, a list of token ids, or a list of such lists.",
        "prompt",
    )


def completion_wish(asked: CompletionRequest, headers: Mapping[str, str]) -> Wish:
    """What the completion asks of its model, for each prompt; raises `ApiError`."""
    limit = asked.max_tokens or DEFAULT_MAX_TOKENS
    wanted = wish(asked, headers, limit, asked.logprobs, grammar(asked, None))
    return msgspec.structs.replace(wanted, endpoint="completions")
