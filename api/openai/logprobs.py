"""Log-probabilities in OpenAI's two shapes: chats' and the older completions'."""

from collections.abc import Iterable

from api.text.alignment import Shown
from api.text.token_text import TokenTexts
from schemas.chat import ChoiceLogprobs, TokenLogprob, TopLogprob
from schemas.completions import LegacyLogprobs

LEAST = -9999.0
"""OpenAI's word for "very unlikely": JSON has no infinity."""


def chat_logprobs(texts: TokenTexts, shown: Iterable[Shown]) -> ChoiceLogprobs:
    """One entry a token, each with its bytes and the likeliest in its place."""
    return ChoiceLogprobs([_token(texts, each) for each in shown])


def _token(texts: TokenTexts, shown: Shown) -> TokenLogprob:
    likeliest = zip(shown.logprobs.top_ids, shown.logprobs.top_logprobs, strict=True)
    top = [TopLogprob(*_named(texts, token_id, logprob)) for token_id, logprob in likeliest]
    return TokenLogprob(*_named(texts, shown.id, shown.logprobs.logprob), top)


def _named(texts: TokenTexts, token_id: int, logprob: float) -> tuple[str, float, list[int] | None]:
    text = texts[token_id]
    return text.escaped, max(logprob, LEAST), None if text.raw is None else list(text.raw)


def legacy_logprobs(texts: TokenTexts, shown: Iterable[Shown], alternatives: int) -> LegacyLogprobs:
    """Four lists; bytes that are no whole characters read `bytes:\\xe6\\x9d`, so that no two tokens look the same."""
    shown = list(shown)
    return LegacyLogprobs(
        text_offset=[each.offset for each in shown],
        token_logprobs=[max(each.logprobs.logprob, LEAST) for each in shown],
        tokens=[_legacy(texts, each.id) for each in shown],
        top_logprobs=[_likeliest(texts, each) for each in shown] if alternatives else None,
    )


def _likeliest(texts: TokenTexts, shown: Shown) -> dict[str, float]:
    """The alternatives, and the chosen token where it is none of them."""
    named = zip(shown.logprobs.top_ids, shown.logprobs.top_logprobs, strict=True)
    found = {_legacy(texts, token_id): max(logprob, LEAST) for token_id, logprob in named}
    return found | {_legacy(texts, shown.id): max(shown.logprobs.logprob, LEAST)}


def _legacy(texts: TokenTexts, token_id: int) -> str:
    text = texts[token_id]
    return text.text if text.raw is None or text.escaped == text.text else f"bytes:{text.escaped}"
