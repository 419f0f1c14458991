"""What single tokens stand for, for those who look at log-probabilities."""

from collections.abc import Callable
from typing import NamedTuple

from tokenizers import Tokenizer

from api.text.detokenizer import BYTE, BytePieces, decoder_steps, is_fallback, special_ids


class TokenText(NamedTuple):
    """One token: its text, and the bytes that it adds; None for control tokens, which stand in no text."""

    text: str
    raw: bytes | None

    @property
    def escaped(self) -> str:
        """The text; where the bytes are no whole characters, those as OpenAI writes them: `\\xe6\\x9d`."""
        if self.raw is None:
            return self.text
        try:
            return self.raw.decode()
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in self.raw)


class TokenTexts(dict[int, TokenText]):
    """The texts of one tokenizer's tokens, looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer)
        self._bytes = _bytes_of(tokenizer)

    def __missing__(self, token_id: int) -> TokenText:
        if token_id in self._special:
            text = TokenText(self._tokenizer.id_to_token(token_id) or "", None)
        else:
            raw = self._bytes(token_id)
            text = TokenText(raw.decode(errors="replace"), raw)
        self[token_id] = text
        return text


def _bytes_of(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """By family, as in `api/text/detokenizer.py`."""
    steps = decoder_steps(tokenizer)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return BytePieces(tokenizer).__getitem__
    if kinds == ["Metaspace"]:
        return _pieces(tokenizer, steps[0]["replacement"], " ")
    if is_fallback(steps):
        return _pieces(tokenizer, steps[0]["pattern"]["String"], steps[0]["content"])
    return lambda token_id: tokenizer.decode([token_id]).encode()


def _pieces(tokenizer: Tokenizer, mark: str, space: str) -> Callable[[int], bytes]:
    def bytes_of(token_id: int) -> bytes:
        token = tokenizer.id_to_token(token_id) or ""
        byte = BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(mark, space).encode()

    return bytes_of
