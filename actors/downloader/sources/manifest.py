"""The manifest of a model, kept beside its files."""

import shutil
from pathlib import Path

import msgspec

from schemas.manifest import Manifest
from schemas.unreadable import UNREADABLE

FOLDER = ".troupe"
"""Inside a model's folder: the manifest, the lock, the files that are not whole yet, and what is known of pieces."""
NAME = "manifest.json"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an earlier download into `folder`; None when there was none, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / FOLDER / NAME).read_bytes(), type=Manifest)
    except (OSError, *UNREADABLE):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step, and drop what an earlier one brought and this one has no use for."""
    earlier = read_manifest(folder)
    for file in earlier.files if earlier is not None else ():
        if file not in manifest.files:
            (folder / file.name).unlink(missing_ok=True)
    gathering = {file.partial_name.removesuffix(".partial") for file in manifest.files}
    recut = earlier is not None and earlier.piece_bytes != manifest.piece_bytes
    for left in (folder / FOLDER).iterdir():
        outdated = left.suffix == ".pieces" and recut  # its records count in pieces of another size
        if outdated or (left.suffix in (".partial", ".pieces") and left.stem not in gathering):
            left.unlink()
        elif left.is_dir():  # what a shard was given of it
            shutil.rmtree(left)
    draft = folder / FOLDER / f"{NAME}.new"
    draft.write_bytes(msgspec.json.encode(manifest))
    draft.replace(folder / FOLDER / NAME)
