"""The JSON files of a model folder, as far as they say something that the cluster needs."""

from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from actors.downloader.damaged_model import DamagedModel
from schemas.unreadable import UNREADABLE

Ids = int | list[int] | None


class Language(Struct, frozen=True):
    """What the language part of a config.json may say."""

    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    max_sequence_length: int | None = None
    max_seq_len: int | None = None
    n_positions: int | None = None
    eos_token_id: Ids = None

    @property
    def context(self) -> int | None:
        return (
            self.max_position_embeddings or self.max_sequence_length or self.max_seq_len or self.n_positions
        )


class Config(Language, frozen=True):
    """config.json."""

    model_type: str = ""
    text_config: Language | None = None
    quantization: dict[str, object] | None = None
    """How MLX has packed the weights: for all layers, and by name for those that differ."""


class GenerationConfig(Struct, frozen=True):
    """generation_config.json."""

    eos_token_id: Ids = None


class SpecialToken(Struct, frozen=True):
    """A special token that is written out with its properties."""

    content: str


class TokenizerConfig(Struct, frozen=True):
    """tokenizer_config.json."""

    eos_token: SpecialToken | str | None = None
    model_max_length: float | None = None


class AddedToken(Struct, frozen=True):
    """A token beside the vocabulary, such as `<|end|>`."""

    id: int
    content: str


class TokenizerModel(Struct, frozen=True):
    """The vocabulary: a table for BPE and WordPiece, a list for Unigram."""

    vocab: dict[str, int] | list[Any] = {}


class TokenizerFile(Struct, frozen=True):
    """tokenizer.json."""

    model: TokenizerModel
    added_tokens: tuple[AddedToken, ...] = ()

    def id_of(self, content: str) -> int | None:
        for added in self.added_tokens:
            if added.content == content:
                return added.id
        return self.model.vocab.get(content) if isinstance(self.model.vocab, dict) else None

    @property
    def size(self) -> int:
        return max([len(self.model.vocab), *(added.id + 1 for added in self.added_tokens)])


_File = TypeVar("_File")


def read_optional(folder: Path, name: str, kind: type[_File]) -> _File:
    """The file, or what holds when a model has none."""
    return read(folder, name, kind) if (folder / name).exists() else kind()


def read(folder: Path, name: str, kind: type[_File]) -> _File:
    """The file as `kind`; raises DamagedModel, which says what is wrong with it."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise DamagedModel(name, f"is missing in {folder}") from error
    except OSError as error:
        raise DamagedModel(name, f"in {folder} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise DamagedModel(name, f"in {folder} is damaged: {error}") from error
