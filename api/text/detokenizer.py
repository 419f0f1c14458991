"""Token ids to text, a few at a time: the increments joined are what decoding all ids at once gives.

Three families cover the tokenizers of language models: byte-level BPE (GPT-2, Llama 3, Qwen, DeepSeek ...),
pieces with byte fallback (Llama 2, Mistral, Gemma, Phi-3 ...), and Metaspace (T5, XLNet). Whatever else there
is goes through the tokenizer itself, whole, each time.
"""

import json
import re
from codecs import utf_8_decode
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol, cast

from tokenizers import Tokenizer

HELD_CHARS = 16
"""A decoder of an unknown family may still change this many characters at the end."""
BYTE = re.compile(r"<0x(\+[0-9A-Fa-f]|[0-9A-Fa-f]{2})>")


class Detokenizer(Protocol):
    """Turns the ids of one sequence into text; never half a character."""

    def add(self, ids: Iterable[int]) -> str:
        """The text that is certain now that `ids` have come."""
        ...

    def end(self) -> str:
        """What was held back until it was clear that nothing follows."""
        ...


def detokenizers(tokenizer: Tokenizer, shown: Collection[str] = ()) -> Callable[[], Detokenizer]:
    """The maker of detokenizers that suits the tokenizer's family; they share one table of pieces.

    Control tokens stand in no text, but those that are `shown`.
    """
    steps = decoder_steps(tokenizer)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        table = BytePieces(tokenizer, shown)
        return lambda: ByteLevelDetokenizer(table)
    if kinds == ["Metaspace"]:
        pieces = TextPieces(tokenizer, cast("str", steps[0]["replacement"]), " ", shown)
        strips = steps[0].get("prepend_scheme", "always") != "never"
        return lambda: MetaspaceDetokenizer(pieces, strips)
    if is_fallback(steps):
        pieces = TextPieces(tokenizer, steps[0]["pattern"]["String"], steps[0]["content"], shown)
        strip = steps[3] if len(steps) > 3 else {}
        return lambda: FallbackDetokenizer(pieces, strip.get("content", " "), strip.get("start", 0))
    return lambda: WholeDetokenizer(tokenizer, shown)


def decoder_steps(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """What the decoder does, in order."""
    decoder: dict[str, Any] | None = json.loads(tokenizer.to_str())["decoder"]
    if decoder is None:
        return []
    return decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


def is_fallback(steps: list[dict[str, Any]]) -> bool:
    """Pieces with byte fallback."""
    kinds = [step["type"] for step in steps]
    if kinds[:3] != ["Replace", "ByteFallback", "Fuse"] or "String" not in steps[0]["pattern"]:
        return False
    return len(steps) == 3 or (kinds[3:] == ["Strip"] and steps[3]["stop"] == 0)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_ALPHABET = byte_alphabet()


def special_ids(tokenizer: Tokenizer, shown: Collection[str] = ()) -> frozenset[int]:
    """Ids of control tokens: they stand in no text, but those that are `shown`."""
    added = tokenizer.get_added_tokens_decoder()
    return frozenset(at for at, token in added.items() if token.special and token.content not in shown)


class BytePieces(dict[int, bytes]):
    """The bytes of each token, looked up once; nothing for control tokens and for ids without a token."""

    def __init__(self, tokenizer: Tokenizer, shown: Collection[str] = ()) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer, shown)

    def __missing__(self, token_id: int) -> bytes:
        token = None if token_id in self._special else self._tokenizer.id_to_token(token_id)
        self[token_id] = piece = b"" if token is None else _bytes_of(token)
        return piece


def _bytes_of(token: str) -> bytes:
    """An added token may have characters outside the alphabet: it stands for itself."""
    try:
        return bytes(_ALPHABET[character] for character in token)
    except KeyError:
        return token.encode()


class TextPieces(dict[int, str | None]):
    """The text of each token with the space put in; None for control tokens and for ids without a token."""

    def __init__(self, tokenizer: Tokenizer, mark: str, space: str, shown: Collection[str] = ()) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer, shown)
        self.mark = mark
        self.space = space

    def raw(self, token_id: int) -> str | None:
        return None if token_id in self._special else self._tokenizer.id_to_token(token_id)

    def __missing__(self, token_id: int) -> str | None:
        token = self.raw(token_id)
        self[token_id] = piece = None if token is None else token.replace(self.mark, self.space)
        return piece


class ByteLevelDetokenizer:
    """Bytes through an incremental UTF-8 decoder, wrong ones replaced as Unicode recommends."""

    def __init__(self, pieces: BytePieces) -> None:
        self._bytes_of = pieces.__getitem__
        self._held = b""
        """The first bytes of a character."""

    def add(self, ids: Iterable[int]) -> str:
        raw = self._held + b"".join(map(self._bytes_of, ids))
        text, read = utf_8_decode(raw, "replace")
        self._held = raw[read:]
        return text

    def end(self) -> str:
        held, self._held = self._held, b""
        return held.decode(errors="replace")


class FallbackDetokenizer:
    """Pieces as they are; a run of byte tokens is one UTF-8 text, or as many replacement characters."""

    def __init__(self, pieces: TextPieces, strip: str, strips: int) -> None:
        self._pieces = pieces
        self._run = bytearray()
        self._strip = strip
        self._strips = strips
        """Leading characters that may still be taken away."""

    def add(self, ids: Iterable[int]) -> str:
        text: list[str] = []
        for token_id in ids:
            piece = self._pieces[token_id]
            if piece is None:
                continue
            byte = BYTE.fullmatch(piece) if piece.startswith("<0x") else None
            if byte is not None:
                self._run.append(int(byte[1], 16))
                continue
            if self._run:
                text.append(self._flush())
            text.append(piece)
        return self._stripped("".join(text))

    def end(self) -> str:
        return self._stripped(self._flush())

    def _flush(self) -> str:
        run, self._run = self._run, bytearray()
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\N{REPLACEMENT CHARACTER}" * len(run)

    def _stripped(self, text: str) -> str:
        while self._strips and text:
            if text[0] != self._strip:
                self._strips = 0
                break
            text = text[1:]
            self._strips -= 1
        return text


class MetaspaceDetokenizer:
    """Pieces with their marks as spaces; the first piece of all loses its marks."""

    def __init__(self, pieces: TextPieces, strips: bool) -> None:
        self._pieces = pieces
        self._strips = strips

    def add(self, ids: Iterable[int]) -> str:
        if not self._strips:
            return "".join(self._pieces[token_id] or "" for token_id in ids)
        text = ""
        for token_id in ids:
            text += self._first(token_id) if self._strips else self._pieces[token_id] or ""
        return text

    def end(self) -> str:
        return ""

    def _first(self, token_id: int) -> str:
        token = self._pieces.raw(token_id)
        if token is None:
            return ""
        self._strips = False
        return token.replace(self._pieces.mark, "")


class WholeDetokenizer:
    """Decodes everything again each time: slow with long answers, right for decoders nobody foresaw."""

    def __init__(self, tokenizer: Tokenizer, shown: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._hidden = special_ids(tokenizer, shown)
        self._ids: list[int] = []
        self._sent = ""

    def add(self, ids: Iterable[int]) -> str:
        self._ids += [token_id for token_id in ids if token_id not in self._hidden]
        text = self._decoded()
        return self._advance(text[: max(len(self._sent), len(text) - HELD_CHARS)])

    def end(self) -> str:
        return self._advance(self._decoded())

    def _decoded(self) -> str:
        return self._tokenizer.decode(self._ids, skip_special_tokens=False)

    def _advance(self, text: str) -> str:
        fresh, self._sent = text[len(self._sent) :], text
        return fresh
