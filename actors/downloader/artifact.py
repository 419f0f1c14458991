"""What an API node needs of a model, without the weights: a zip of tokenizer, template and configuration."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from bus.subjects import token
from schemas.ids import ModelId

FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Artifact(Struct, frozen=True):
    """An object of the store `troupe_artifacts`; its name changes with what is in it."""

    name: str
    data: bytes


def pack(model: ModelId, folder: Path) -> Artifact:
    """The artifact of the model in `folder`: equal files make an equal name, on every machine."""
    contents = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    return Artifact(name=f"{token(model)}-{_digest(contents)[:16]}", data=_zipped(contents))


def _digest(contents: Mapping[str, bytes]) -> str:
    """Of the files, not of the archive: compression differs from one zlib to another."""
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(entry, content)
    return archive.getvalue()
