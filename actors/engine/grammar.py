"""Constrained decoding: which tokens may come next, so that the answer is a sentence of a grammar.

    grammars = Grammars(folder, vocabulary)  # once for a model; its first `begin` builds the tokens' table
    constraint = grammars.begin(task.grammar, task.stop_ids)  # GrammarError: the request's fault, in a sentence
    for token in made: constraint.commit(token)  # a later attempt goes on where an earlier one was
    while not constraint.ended:  # ended: nothing can follow; the sequence ends with reason "stop"
        mask = constraint.mask()  # one bit for each token
        constraint.commit(chosen)

A stop id is allowed where the answer may end, and nowhere else. Where a sequence has no stop ids (`ignore_eos`), or
they are forbidden (`min_tokens`), it ends when the grammar is complete: look at `ended` before `mask`. Control
tokens are never allowed, except those that a Lark grammar names (`<|tool|>`, `<[5]>`).
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLTokenizer, regex_to_lark

from actors.engine.grammar_bounds import LIMITS, GrammarError, check_bounds
from actors.engine.token_table import read_token_table
from schemas.task import Grammar

__all__ = ["Constraint", "GrammarError", "Grammars"]

COMPILED = 32
"""Compiled grammars that are kept for the next request with the same; one has some MB at most."""
JSON_DEFAULTS: Any = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,40}"}
"""As much white space as an indented line begins with, not more: small models fall into endless spaces."""


class Grammars:
    """The grammars of one model's requests; compiled once, bounded in number and cost."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        """`vocabulary`: how many logits the model gives; may be more than the tokenizer in `folder` knows."""
        self._folder = folder
        self._vocabulary = vocabulary
        self._compiled: Callable[[Grammar], LLMatcher] = lru_cache(COMPILED)(self._compile)

    def begin(self, grammar: Grammar, stop_ids: Iterable[int] = ()) -> "Constraint":
        """At position 0 of an answer that ends with one of `stop_ids`; raises `GrammarError`."""
        matcher = self._compiled(grammar).deep_copy()
        return Constraint(matcher, self._tokens[1], self._vocabulary, stop_ids)

    def prepare(self) -> None:
        """Build the tokens' table, so that no first request waits for it: a second, with 150,000 tokens."""
        with suppress(GrammarError):  # it is the request's to hear of it
            _ = self._tokens

    def require_spelling(self, name: str) -> None:
        """Raises `GrammarError` unless tokens can be spelt, which the parameter called `name` needs."""
        try:
            _ = self._tokens
        except GrammarError as error:
            raise GrammarError(f"{name} cannot be kept to here: {error}") from error

    def spell(self, token: int) -> bytes:
        """What a token adds to a text: a control token nothing."""
        table, _ = self._tokens
        if token >= table.vocab_size or table.is_special_token(token):
            return b""
        return table.decode_bytes([token])

    @cached_property
    def _tokens(self) -> tuple[LLTokenizer, int]:
        try:
            return read_token_table(self._folder / "tokenizer.json")
        except (OSError, ValueError) as error:
            raise GrammarError(f"This model's tokenizer cannot be used with grammars: {error}.") from error

    def _compile(self, grammar: Grammar) -> LLMatcher:
        check_bounds(grammar)
        table, _ = self._tokens
        try:
            matcher = LLMatcher(table, _source(grammar), log_level=0, limits=LIMITS)
        except ValueError as error:
            raise GrammarError(f"The {_NOUNS[grammar.kind]} cannot be used: {error}.") from error
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first mask costs most, and is kept; it finds what can never match
        if matcher.is_error():
            raise GrammarError(f"The {_NOUNS[grammar.kind]} cannot be used: {_reason(matcher)}.")
        return matcher


class Constraint:
    """One answer under its grammar."""

    def __init__(self, matcher: LLMatcher, end: int, vocabulary: int, stop_ids: Iterable[int]) -> None:
        self._matcher = matcher
        self._end = end
        self._bytes = (vocabulary + 7) // 8
        self._vocabulary = vocabulary
        self._stop_ids = frozenset(stop for stop in stop_ids if 0 <= stop < vocabulary)
        self._stopped = False

    @property
    def ended(self) -> bool:
        """The answer is a whole sentence that nothing can follow."""
        return self._stopped or (self._matcher.is_stopped() and not self._matcher.is_error())

    def mask(self) -> bytes:
        """Bit `id % 8` (lowest first) of byte `id // 8`: may this token be next? Raises `GrammarError`."""
        bits = bytearray(self._matcher.compute_bitmask())
        if self._matcher.is_error():
            raise GrammarError(f"The answer cannot go on under its grammar: {_reason(self._matcher)}.")
        may_end = _bit(bits, self._end)
        mask = bits[: self._bytes].ljust(self._bytes, b"\0")
        for token in (*self._stop_ids, self._end):
            _set(mask, token, may_end and token in self._stop_ids)
        return bytes(mask)

    def fork(self) -> "Constraint":
        return Constraint(self._matcher.deep_copy(), self._end, self._vocabulary, self._stop_ids)

    def commit(self, token: int) -> None:
        """The token that was chosen; a stop id ends it. Raises `GrammarError` if it cannot be next."""
        if token in self._stop_ids:
            self._stopped = True
        elif not self._matcher.consume_token(token):
            raise GrammarError(
                f"Token {token} cannot be next under the answer's grammar: {_reason(self._matcher)}."
            )


_DEAD_ENDS = ("", "NoExtension", "NoExtensionBias")
_NOUNS = {"json_schema": "JSON schema", "regex": "regular expression", "lark": "grammar"}


def _source(grammar: Grammar) -> str:
    match grammar.kind:
        case "json_schema":
            return LLMatcher.grammar_from_json_schema(grammar.source, defaults=JSON_DEFAULTS)
        case "regex":
            return LLMatcher.grammar_from_lark(f"start: /{_regex(grammar.source)}/")
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)


def _regex(source: str) -> str:
    r"""As Lark writes it; `\d` are the ten ASCII digits, `\w` and `\s` are Unicode's."""
    if (len(source) - len(source.rstrip("\\"))) % 2:
        raise GrammarError("The regular expression cannot be used: it ends within an escape.")
    return regex_to_lark(source, "d")


def _reason(matcher: LLMatcher) -> str:
    """One line out of several with pictures; the state and the grammar are not shown."""
    said = matcher.get_error().split("<state>")[0].split("<non-verbose/>")[0].strip()
    lines = [line.strip() for line in said.splitlines()] or [""]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = (errors or lines)[0].split("; following special tokens")[0]
    return "nothing can match it" if reason in _DEAD_ENDS else reason[:300].rstrip(".:")


def _bit(bits: bytearray, token: int) -> bool:
    return bool(bits[token // 8] >> token % 8 & 1)


def _set(bits: bytearray, token: int, value: bool) -> None:
    if token // 8 < len(bits):
        bits[token // 8] = bits[token // 8] & ~(1 << token % 8) | value << token % 8
