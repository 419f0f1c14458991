"""The name that somebody probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(typed: str, names: Iterable[str]) -> str | None:
    """The one of `names` that reads most like `typed`; None when none comes close."""
    by_folded = {name.casefold(): name for name in names}
    close = get_close_matches(typed.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def did_you_mean(typed: str, names: Iterable[str]) -> str:
    """A question to add to a sentence, `; did you mean 'guide'?`, or nothing."""
    close = nearest(typed, names)
    return f"; did you mean {close!r}?" if close else ""
