"""Which pieces of a model's files a node needs that carries only some of the layers."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from actors.downloader.configuration import read
from actors.downloader.damaged_model import DamagedModel
from actors.downloader.sources.holding import Holding
from actors.downloader.sources.piece_file import PieceFile
from actors.downloader.sources.source import Need
from actors.downloader.sources.wanted_files import WEIGHTS
from actors.downloader.weights import MAX_HEADER_BYTES, Tensor, decode_header

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
"""The first number in a tensor's name: `model.layers.17.mlp.up_proj.weight`."""

Pieces = list[tuple[PieceFile, int]]


class Depth(Struct, frozen=True):
    """How many layers config.json says that there are, by one of the names for it."""

    num_hidden_layers: int | None = None
    num_layers: int | None = None
    n_layer: int | None = None
    n_layers: int | None = None
    text_config: "Depth | None" = None

    @property
    def layers(self) -> int | None:
        own = self.num_hidden_layers or self.num_layers or self.n_layer or self.n_layers
        return (self.text_config and self.text_config.layers) or own


class Parts:
    """What `need` means for the files of `holding`; each method's pieces must be here before the next one is asked."""

    def __init__(self, holding: Holding, need: Need) -> None:
        self._holding = holding
        self._need = need

    def beginnings(self) -> Pieces:
        """All but the weights, and where the weights' headers begin."""
        return [
            (file, piece)
            for file, piece in self._holding.pieces()
            if piece == 0 or not file.file.name.endswith(WEIGHTS)
        ]

    def headers(self) -> Pieces:
        """The beginnings, and all of the headers."""
        headers = [(file, piece) for file in self._weights() for piece in file.covering(0, _data_at(file))]
        return list(dict.fromkeys([*self.beginnings(), *headers]))

    def tensors(self) -> Pieces:
        """All of what is needed."""
        if self._need is None:
            return list(self._holding.pieces())
        headers = {file: _header(file) for file in self._weights()}
        layers = layers_of([name for header in headers.values() for name in header], self._depth())
        needed = [
            (file, piece)
            for file, header in headers.items()
            for name, (begin, end) in _offsets(file, header)
            if (layer := layers.get(name)) is None or any(first <= layer < last for first, last in self._need)
            for piece in file.covering(begin, end)
        ]
        return list(dict.fromkeys([*self.headers(), *needed]))

    def lacking(self) -> Pieces:
        """What is needed, and not here."""
        return [(file, piece) for file, piece in self.tensors() if not file.has(piece)]

    def _weights(self) -> list[PieceFile]:
        return [file for name, file in self._holding.files.items() if name.endswith(WEIGHTS)]

    def _depth(self) -> int | None:
        return read(self._holding.files["config.json"].path.parent, "config.json", Depth).layers


def layers_of(tensors: Iterable[str], depth: int | None) -> dict[str, int]:
    """The layer of each tensor that belongs to one of the `depth` layers; what is not in it, every node needs.

    Layers are the one stack that has as many. Where that is not clear, none is told: more than needed is no harm.
    """
    stacks: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name in tensors:
        if found := _LAYER.search(name):
            stacks[name[: found.start()]][name] = int(found[1])
    deep = [
        stack for stack in stacks.values() if depth is not None and set(range(depth)) <= set(stack.values())
    ]
    if len(deep) != 1 or depth is None:
        return {}
    return {name: layer for name, layer in deep[0].items() if layer < depth}


def _data_at(file: PieceFile) -> int:
    """Where the header ends, and the data begins."""
    with file.path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if file.file.size < 8 or length > min(file.file.size - 8, MAX_HEADER_BYTES):
        raise DamagedModel(file.file.name, f"is no safetensors file ({file.file.size:,} bytes)")
    return 8 + length


def _header(file: PieceFile) -> dict[str, Tensor]:
    with file.path.open("rb") as opened:
        opened.seek(8)
        return decode_header(file.file.name, opened.read(_data_at(file) - 8))


def _offsets(file: PieceFile, header: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where in the file the bytes of each tensor are."""
    at = _data_at(file)
    for name, tensor in header.items():
        begin, end = tensor.data_offsets
        yield name, (at + begin, at + end)
