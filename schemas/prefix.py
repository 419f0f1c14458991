"""The beginnings of prompts, as numbers that can be compared without the prompts.

A prompt is cut into blocks of `BLOCK` tokens; the digest of a block is made from its tokens and the digest of the
block before it, so that equal digests mean equal beginnings. An unfinished last block has none.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from msgspec import Struct

from schemas.ids import InstanceId

BLOCK = 32
"""Tokens of one block."""
DIGEST_BYTES = 8
MOST_DIGESTS = 16_384
"""Most that one runner announces: 128 KiB."""

Digest = bytes


def block_digests(ids: bytes) -> Iterator[Digest]:
    """The digests of a prompt's whole blocks, first to last; `ids` are raw little-endian u32."""
    size = 4 * BLOCK
    last = b""
    for end in range(size, len(ids) + 1, size):
        last = blake2b(last + ids[end - size : end], digest_size=DIGEST_BYTES).digest()
        yield last


class Prefixes(Struct, frozen=True, array_like=True, tag="X"):
    """What a runner keeps of earlier prompts: all of it, or how it differs from the message before."""

    instance: InstanceId
    attempt: int
    number: int
    """Counts a runner's messages; who has missed one waits for the next `whole` one."""
    whole: bool
    added: bytes = b""
    """Digests, one after the other."""
    removed: bytes = b""


def join(found: Iterable[Digest]) -> bytes:
    """Digests as one row of bytes."""
    return b"".join(found)


def split(row: bytes) -> list[Digest]:
    """The digests in a row of bytes; ValueError when one is cut."""
    if len(row) % DIGEST_BYTES:
        raise ValueError(f"{len(row)} bytes are no whole digests")
    return [row[at : at + DIGEST_BYTES] for at in range(0, len(row), DIGEST_BYTES)]
