"""What a simulated engine says: printable tokens of a real vocabulary, in an order that the prompt decides."""

import zlib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from actors.downloader.configuration import TokenizerFile, read
from actors.downloader.damaged_model import DamagedModel
from actors.engine.port import EngineLoadError
from schemas.task import Sampling

STRIDES = (1, 3, 5, 7, 11, 13, 17, 19)
SPACES = "\u0120\u2581"
"""How byte-level tokenizers and SentencePiece write a space before a word."""
TABLE = 4096
"""Most tokens that are used."""


class Nonsense(Struct, frozen=True):
    """A table of tokens, each packed as a u32 already."""

    vocabulary: int
    table: tuple[bytes, ...]

    def start(self, prompt: bytes, sampling: Sampling) -> int:
        """A number that stands for the answer to a packed prompt; greedy answers do not depend on the seed."""
        seed = 0 if sampling.temperature == 0 else sampling.seed
        return zlib.crc32(seed.to_bytes(16, "little", signed=True), zlib.crc32(prompt))

    def token(self, start: int, position: int) -> bytes:
        """The packed token at a position of an answer."""
        return self.table[(start + position * STRIDES[start & 7]) % len(self.table)]


def read_nonsense(folder: Path) -> Nonsense:
    """The words of the tokenizer in `folder`; raises EngineLoadError, which names the file."""
    try:
        tokenizer = read(folder, "tokenizer.json", TokenizerFile)
    except DamagedModel as damage:
        raise EngineLoadError(str(damage), retryable=False) from damage
    table = tuple(at.to_bytes(4, "little") for at in sorted(_words(tokenizer))[:TABLE])
    if not table:
        raise EngineLoadError(f"tokenizer.json in {folder} has no token of letters alone", retryable=False)
    return Nonsense(tokenizer.size, table)


def _words(tokenizer: TokenizerFile) -> list[int]:
    """Ids of the tokens of ASCII letters, with or without a space before them."""
    vocabulary = tokenizer.model.vocab
    if isinstance(vocabulary, dict):
        pieces = list(vocabulary.items())
    else:
        pieces = [(_piece(entry), at) for at, entry in enumerate(vocabulary)]
    special = {added.id for added in tokenizer.added_tokens}
    return [at for piece, at in pieces if at not in special and _is_word(piece)]


def _is_word(piece: str) -> bool:
    letters = piece.lstrip(SPACES)
    return letters.isascii() and letters.isalpha()


def _piece(entry: Any) -> str:
    """Unigram vocabularies are lists of [piece, score]."""
    try:
        return msgspec.convert(entry, tuple[str, float])[0]
    except msgspec.ValidationError:
        return ""
