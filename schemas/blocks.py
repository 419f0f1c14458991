"""Names of prompts' beginnings: each block of tokens is named by itself and all before it."""

from collections.abc import Iterator
from hashlib import blake2b

BLOCK = 32
"""Tokens of one block."""
_BYTES = 4 * BLOCK


def block_digests(packed: bytes) -> Iterator[bytes]:
    """8 bytes for each whole block of these u32 ids, made from the block and the digest before it."""
    digest = b""
    for begin in range(0, len(packed) - _BYTES + 1, _BYTES):
        digest = blake2b(digest + packed[begin : begin + _BYTES], digest_size=8).digest()
        yield digest
