"""A new commit may be cut into pieces of another size, with files in it that stayed the same."""

from pathlib import Path

from actors.downloader.sources.holding import Holding
from actors.downloader.sources.manifest import FOLDER, write_manifest
from schemas.manifest import MIB, ListedFile, Manifest

SAME = ListedFile(name="same.safetensors", size=8 * MIB, sha256="ab" * 32)


def test_what_is_known_of_pieces_of_another_size_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    grown = ListedFile(name="grown.safetensors", size=600 * MIB, sha256="cd" * 32)
    small, large = Manifest("1", (SAME,)), Manifest("2", (SAME, grown))
    assert small.piece_bytes < large.piece_bytes
    write_manifest(tmp_path, small)
    Holding(tmp_path, small).files[SAME.name].append(7, b"some bytes")
    write_manifest(tmp_path, large)
    kept = Holding(tmp_path, large).files[SAME.name]
    assert [kept.here(piece) for piece in kept.pieces] == [0, 0]
