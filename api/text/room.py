"""Whether a request suits its model: token ids in the vocabulary, prompt and answer in the context."""

import msgspec

from api.catalogue import Described
from api.errors import ApiError, bad_request
from api.wish import Wish
from schemas.task import Sampling, rolling_room


def check_ids(model: Described, ids: list[int], name: str) -> None:
    """Raises `ApiError` unless `ids`, made of the client's `name`, can be given to the model."""
    if not ids:
        raise bad_request(f"'{name}' makes an empty prompt: say something.", name)
    if name != "messages":
        check_vocabulary(model, ids, name)
    elif max(ids) >= model.card.vocabulary:
        raise ApiError(
            500, f"The tokenizer of '{model.spec.id}' does not fit its weights.", code="model_damaged"
        )


def check_vocabulary(model: Described, ids: list[int], name: str) -> None:
    """Raises `ApiError` unless every one of `ids` is a token of the model."""
    vocabulary, highest = model.card.vocabulary, max(ids, default=0)
    if highest >= vocabulary:
        raise bad_request(
            f"'{name}' has the token id {highest}, but the vocabulary has {vocabulary} tokens.", name
        )


def check_bias(model: Described, wish: Wish) -> None:
    """Raises `ApiError` unless every token of `logit_bias` exists: an id out of range kills an engine."""
    vocabulary = model.card.vocabulary
    for token_id, _ in wish.sampling.logit_bias:
        if not 0 <= token_id < vocabulary:
            raise bad_request(
                f"'logit_bias' names the token id {token_id}, but the vocabulary has {vocabulary} tokens.",
                "logit_bias",
            )


def sampling_within(model: Described, sampling: Sampling) -> Sampling:
    """As many of the likeliest tokens as there are, or more, are all."""
    if sampling.top_k < model.card.vocabulary:
        return sampling
    return msgspec.structs.replace(sampling, top_k=0)


def rolls(model: Described, ids: list[int], wish: Wish) -> bool:
    """Whether the answer may go on past the context, and has to."""
    return wish.truncation == "rolling" and len(ids) + (wish.limit or 0) > model.context


def check_rolling(wish: Wish) -> None:
    """Raises `ApiError` when what is to be kept to would go out of view."""
    if wish.grammar is not None:
        name = "provider_extensions.truncation"
        what = f"'{name}' cannot be 'rolling' when the answer keeps to a grammar ('{wish.grammar_name}')"
        raise bad_request(f"{what}, and is longer than the context. Lower max_tokens.", name)


def room(model: Described, ids: list[int], wish: Wish, name: str, left_out: int = 0) -> int:
    """Most tokens of the answer: what was asked for, or the rest of the context; raises `ApiError`."""
    limit, rest = wish.limit, model.context - len(ids)
    least = limit or max(1, wish.min_tokens)
    if rolls(model, ids, wish):
        least = min(least, rolling_room(model.context))
    if rest >= least:
        return limit or rest
    asked = f" and {least} for the answer" if limit or wish.min_tokens else ""
    already = f" ({left_out} messages are left out already)" if left_out else ""
    too_long = name if rest < 1 else "max_tokens" if limit else "min_tokens"
    raise bad_request(
        f"This model's maximum context length is {model.context} tokens. However, you requested "
        f"{len(ids) + least} tokens: {len(ids)} in the {name}{already}{asked}. "
        f"Shorten the {name}, or lower max_tokens.",
        too_long,
        "context_length_exceeded",
    )
