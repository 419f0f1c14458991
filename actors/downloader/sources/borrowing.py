"""Files that another revision of the same model has on this disk already: they are not fetched again."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from actors.downloader.sources.holding import Holding
from actors.downloader.sources.manifest import read_manifest
from actors.downloader.sources.piece_file import PieceFile


def borrow(holding: Holding, others: Iterable[Path]) -> None:
    """Give `holding` what lies whole in other folders, under a second name: one that goes takes nothing from the rest."""
    for other in others:
        manifest = read_manifest(other)
        if manifest is None or manifest.piece_bytes != holding.manifest.piece_bytes:
            continue
        for file in holding.files.values():
            if file.file in manifest.files and (file.file.sha256 or file.file.blob or file.file.tag):
                with suppress(
                    OSError
                ):  # that model is removed at this moment, or the disk knows no second names
                    _link(PieceFile(file.file, manifest.piece_bytes, other), file)


def _link(theirs: PieceFile, ours: PieceFile) -> None:
    if not theirs.is_whole or ours.is_whole or ours.gathering.exists():
        return
    ours.place.hardlink_to(theirs.place)
    shutil.copyfile(theirs.journal, ours.journal)
    ours.reread()
