"""Texts that a tokenizer would read as control tokens, found and broken wherever they stand in a prompt's JSON."""

import re
from collections.abc import Iterable
from typing import Any, cast

from tokenizers import Tokenizer


class ControlText:
    """Some control tokens of one tokenizer, and the break that is put into their texts."""

    def __init__(self, tokenizer: Tokenizer, controls: Iterable[str], broken_by: str) -> None:
        self._pattern = _first_characters(controls)
        self._break = broken_by
        added = tokenizer.get_added_tokens_decoder().values()
        self._normalizer = tokenizer.normalizer if any(token.normalized for token in added) else None

    def is_in(self, value: Any) -> bool:
        """Whether one stands in a text, or in any text within a list or a mapping."""
        match value:
            case str():
                return self._pattern.search(self._folded(value)) is not None
            case dict():
                pairs = cast("dict[str, Any]", value).items()
                return any(self.is_in(part) or (_is_text(key) and self.is_in(key)) for key, part in pairs)
            case list() | tuple():
                return any(self.is_in(part) for part in cast("list[Any]", value))
            case _:
                return False

    def broken(self, value: Any) -> Any:
        """The same with a break after the first character of each."""
        match value:
            case str():
                return self._pattern.sub(lambda first: first[0] + self._break, self._folded(value))
            case dict():
                pairs = cast("dict[str, Any]", value).items()
                return {self.broken(key) if _is_text(key) else key: self.broken(part) for key, part in pairs}
            case list() | tuple():
                return [self.broken(part) for part in cast("list[Any]", value)]
            case _:
                return value

    def _folded(self, text: str) -> str:
        """As the tokenizer will see it, where a control token is looked for after normalisation."""
        if self._normalizer is None:
            return text
        folded = self._normalizer.normalize_str(text)
        return folded if self._pattern.search(folded) and not self._pattern.search(text) else text


def _is_text(key: str) -> bool:
    """Whether a key may be what somebody wrote; `tool_calls` is one that a template looks for."""
    return not key.isidentifier()


def _first_characters(controls: Iterable[str]) -> re.Pattern[str]:
    """Finds the first character of each control token's text, overlapping ones too; one character cannot be broken."""
    long = sorted({re.escape(text) for text in controls if len(text) > 1})
    return re.compile(f"(?={'|'.join(long)}).", re.DOTALL) if long else re.compile(r"(?!)")
