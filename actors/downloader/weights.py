"""The weights of a model folder, read from their headers alone: what is there, and that nothing is cut."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from actors.downloader.damaged_model import DamagedModel
from schemas.unreadable import UNREADABLE

INDEX = "model.safetensors.index.json"
PATTERN = "model*.safetensors"
"""What the engine loads."""
MAX_HEADER_BYTES = 100_000_000
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


class Tensor(Struct, frozen=True):
    """One entry of a safetensors header; the offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Index(Struct, frozen=True):
    """Which file holds which tensor, for weights that are spread over several files."""

    weight_map: dict[str, str]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the model in `folder`; raises DamagedModel when one of them is not whole."""
    if (folder / INDEX).exists():
        return _indexed(folder)
    files = sorted(folder.glob(PATTERN))
    if not files:
        raise DamagedModel("model.safetensors", f"is missing in {folder}: weights must be safetensors files")
    return {name: tensor for file in files for name, tensor in read_header(file).items()}


def weights_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.data_offsets[1] - tensor.data_offsets[0] for tensor in tensors.values())


def read_header(file: Path) -> dict[str, Tensor]:
    """The tensors that `file` says it holds, all of which it does hold."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise DamagedModel(file.name, f"is cut short or no safetensors file ({size:,} bytes)")
            raw = opened.read(length)
    except OSError as error:
        raise DamagedModel(file.name, f"in {file.parent} cannot be read: {error.strerror}") from error
    tensors = decode_header(file.name, raw)
    for problem in _problems(tensors, size - 8 - length):
        raise DamagedModel(file.name, problem)
    return tensors


def _indexed(folder: Path) -> dict[str, Tensor]:
    try:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
    except OSError as error:
        raise DamagedModel(INDEX, f"in {folder} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise DamagedModel(INDEX, f"in {folder} is no index of weights: {error}") from error
    headers = {shard: _shard(folder, shard) for shard in sorted(set(index.weight_map.values()))}
    for tensor, shard in index.weight_map.items():
        if tensor not in headers[shard]:
            raise DamagedModel(shard, f"lacks the tensor {tensor}, which {INDEX} promises to be in it")
    if not headers:
        raise DamagedModel(INDEX, f"in {folder} names no weights")
    return {name: tensor for header in headers.values() for name, tensor in header.items()}


def _shard(folder: Path, shard: str) -> dict[str, Tensor]:
    if Path(shard).name != shard:
        raise DamagedModel(INDEX, f"names {shard!r}, which is outside of the model's folder")
    if not (folder / shard).exists():
        raise DamagedModel(shard, f"is missing in {folder}, and {INDEX} names it")
    return read_header(folder / shard)


def decode_header(name: str, raw: bytes) -> dict[str, Tensor]:
    """What a header says; raises DamagedModel, which names the file."""
    try:
        entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        return {tensor: msgspec.json.decode(entry, type=Tensor) for tensor, entry in entries.items()}
    except UNREADABLE as error:
        raise DamagedModel(name, f"has a header that cannot be read: {error}") from error


def _problems(tensors: Mapping[str, Tensor], data_bytes: int) -> Iterator[str]:
    """What does not fit together; a cut file says so before anything else."""
    end = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    if end != data_bytes:
        what = "is cut short" if data_bytes < end else "is longer than it should be"
        yield f"{what}: its header promises {end:,} bytes of data, it holds {data_bytes:,}"
    for name, tensor in tensors.items():
        begin, end = tensor.data_offsets
        bits = BITS.get(tensor.dtype)
        if bits is None:
            yield f"holds {name} as {tensor.dtype}, a type of number that is not known"
        elif begin < 0 or (end - begin) * 8 != math.prod(tensor.shape) * bits:
            yield f"says that {name} is {tensor.dtype} {list(tensor.shape)} in {end - begin:,} bytes"
