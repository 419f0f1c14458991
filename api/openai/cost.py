"""What a request cost, in OpenAI's words."""

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from api.generation import Generation
from schemas.chunks import Usage
from schemas.openai import CompletionTokensDetails, CompletionUsage, PromptTokensDetails, ShownTimings


def usage(generations: Iterable[Generation]) -> CompletionUsage:
    """Tokens of all the generations that one answer is made of."""
    costs = [generation.usage for generation in generations]
    prompt = sum(cost.prompt_tokens for cost in costs)
    completion = sum(cost.completion_tokens for cost in costs)
    cached = sum(cost.cached_tokens for cost in costs)
    proposed = _proposed(costs)
    return CompletionUsage(prompt, completion, prompt + completion, PromptTokensDetails(cached), proposed)


def _proposed(costs: Iterable[Usage]) -> CompletionTokensDetails | UnsetType:
    """By the model's draft."""
    accepted = sum(cost.accepted_tokens for cost in costs)
    rejected = sum(cost.rejected_tokens for cost in costs)
    return CompletionTokensDetails(accepted, rejected) if accepted or rejected else UNSET


def timings(generations: Iterable[Generation]) -> ShownTimings | UnsetType:
    """Of several generations, the longest of each; nothing unless it was asked for."""
    known = [timings for each in generations if (timings := each.timings) is not None]
    if not known:
        return UNSET
    return ShownTimings(
        waited_s=max(each.waited_s for each in known),
        prefill_s=max(each.prefill_s for each in known),
        decode_s=max(each.decode_s for each in known),
    )


def fingerprint(generation: Generation) -> str:
    """Changes with the model's files: the artifact's name ends in their digest."""
    return f"fp_{generation.artifact.rpartition('-')[2][:16]}"
