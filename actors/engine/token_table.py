"""A model's tokens as llguidance wants them: the bytes that each adds to the answer, and which are control tokens."""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from llguidance import LLTokenizer, TokenizerWrapper
from msgspec import Struct, json
from tokenizers import Tokenizer

MARK = "\x02"
"""Before a text, it takes the space that some tokenizers put there."""
LONGEST = 64
"""Bytes of a token that is looked for where the tokenizer is no help."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
Spelling = Callable[[str], bytes]


class UnknownTokens(ValueError):
    """A tokenizer whose tokens are not spelt in a known way."""


class TokenTable:
    """What `TokenizerWrapper` wraps; `eos_token_id` is a token of its own, which says that the answer may end.

    Control tokens are named in Lark as they are written, `<|end|>`; one without angle brackets by those around it,
    `[TOOL_CALLS]` as `<|[TOOL_CALLS]|>`.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, decoder: dict[str, Any] | None) -> None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        special = {at for at, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        spelling = _spelling(decoder)
        self.eos_token_id = max(vocabulary.values()) + 1
        self.special_token_ids = [*special, self.eos_token_id]
        self.tokens = [b""] * self.eos_token_id + [b"<|troupe:the-answer-may-end|>"]
        for text, at in vocabulary.items():
            self.tokens[at] = _named(text) if at in special else spelling(text)
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # their text is text here

    def __call__(self, text: str) -> list[int]:
        """As the model would split what it must say; none at all where no tokens say it."""
        raw = text.encode()
        marked = self._encode(MARK + text)
        for ids in (self._encode(text), marked[1:], marked[2:]):
            if b"".join(self.tokens[at] for at in ids) == raw:
                return ids
        return self._longest(raw)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _longest(self, raw: bytes) -> list[int]:
        """The longest token first, where the tokenizer changes the text."""
        ids: list[int] = []
        while raw:
            length = next(
                (size for size in range(min(len(raw), LONGEST), 0, -1) if raw[:size] in self._ids), 0
            )
            if not length:
                return []
            ids.append(self._ids[raw[:length]])
            raw = raw[length:]
        return ids

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        special = frozenset(self.special_token_ids)
        return {piece: at for at, piece in enumerate(self.tokens) if at not in special}


class Decoding(Struct):
    """Of a tokenizer.json, what tells how tokens are spelt."""

    decoder: dict[str, Any] | None = None


def read_token_table(path: Path) -> tuple[LLTokenizer, int]:
    """The tokens of a tokenizer.json, and the id that says that the answer may end; raises OSError, ValueError."""
    source = path.read_text()
    try:
        tokenizer = Tokenizer.from_str(source)
    except Exception as error:  # tokenizers raises nothing narrower
        raise UnknownTokens(str(error)) from error
    table = TokenTable(tokenizer, json.decode(source, type=Decoding).decoder)
    return LLTokenizer(TokenizerWrapper(table)), table.eos_token_id


def _named(text: str) -> bytes:
    """As Lark can name it."""
    return (text if text.startswith("<") and text.endswith(">") else f"<|{text}|>").encode()


def _spelling(decoder: dict[str, Any] | None) -> Spelling:
    """The families that api/text/detokenizer.py knows; raises `UnknownTokens` for others."""
    steps = cast("list[dict[str, Any]]", (decoder or {}).get("decoders", [decoder or {}]))
    kinds = [step.get("type") for step in steps]
    if "ByteLevel" in kinds:
        return _byte_level
    if kinds == ["Metaspace"]:
        mark = cast("str", steps[0]["replacement"])
        return lambda piece: piece.replace(mark, " ").encode()
    if "ByteFallback" in kinds and kinds[0] == "Replace" and "String" in steps[0]["pattern"]:
        return _with_fallback(steps[0]["pattern"]["String"], steps[0]["content"])
    raise UnknownTokens(f"its decoder is {' and '.join(map(str, kinds))}, which is not known here")


def _alphabet() -> dict[str, int]:
    """GPT-2's characters for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(rest)}


_ALPHABET = _alphabet()


def _byte_level(piece: str) -> bytes:
    """An added token may have characters outside the alphabet: it stands for itself."""
    try:
        return bytes(_ALPHABET[character] for character in piece)
    except KeyError:
        return piece.encode()


def _with_fallback(mark: str, space: str) -> Spelling:
    def spell(piece: str) -> bytes:
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace(mark, space).encode()

    return spell
