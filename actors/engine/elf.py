"""Shared libraries as bytes: the one change to them that Troupe needs."""

import struct

HASH_SEED = 5381
WORD_BITS = 64
LOAD, DYNAMIC = 1, 2
STRING_TABLE, SYMBOL_TABLE, GNU_HASH = 5, 6, 0x6FFFFEF5
SYMBOL_BYTES = 24


class UnknownLibraryFormat(Exception):
    """The bytes are not a 64-bit little-endian ELF library with a GNU hash table."""


def without_prefix(library: bytes, prefix: bytes) -> bytes:
    """The same library with `prefix` cut off the names of the symbols it exports.

    A symbol's name is an offset into the string table, so cutting a prefix is adding its length. The hash table
    that the loader searches is written anew in its old place: one bucket, and a true Bloom filter before it, so
    that names which are not here are still refused at once.
    """
    try:
        return _without_prefix(bytearray(library), prefix)
    except (struct.error, LookupError, StopIteration, ValueError, ArithmeticError) as error:
        raise UnknownLibraryFormat(str(error)) from error


def _without_prefix(image: bytearray, prefix: bytes) -> bytes:
    tables = _dynamic_tables(image)
    strings, symbols, table = tables[STRING_TABLE], tables[SYMBOL_TABLE], tables[GNU_HASH]
    buckets, first, words, shift = struct.unpack_from("<4I", image, table)
    if table + 8 * words > len(image):
        raise ValueError("the hash table does not end in the file")
    bloom = [0] * words
    chain: list[int] = []
    for index in range(first, _last_symbol(image, table, buckets, first, words) + 1):
        symbol = symbols + SYMBOL_BYTES * index
        name: int = struct.unpack_from("<I", image, symbol)[0]
        if image.startswith(prefix, strings + name):
            name += len(prefix)
            struct.pack_into("<I", image, symbol, name)
        hashed = gnu_hash(image[strings + name : image.index(0, strings + name)])
        bloom[hashed // WORD_BITS % words] |= 1 << hashed % WORD_BITS | 1 << (hashed >> shift) % WORD_BITS
        chain.append(hashed & ~1)
    chain[-1] |= 1  # the end of the one bucket
    struct.pack_into(
        f"<4I{words}QI{len(chain)}I", image, table, 1, first, words, shift, *bloom, first, *chain
    )
    return bytes(image)


def gnu_hash(name: bytes | bytearray) -> int:
    """The hash by which a loader finds a symbol."""
    hashed = HASH_SEED
    for character in name:
        hashed = (hashed * 33 + character) & 0xFFFFFFFF
    return hashed


def _dynamic_tables(image: bytearray) -> dict[int, int]:
    """Where in the file the loader's tables begin, by their tags."""
    if not image.startswith(b"\x7fELF\x02\x01"):
        raise ValueError("not a 64-bit little-endian ELF file")
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", image, headers + size * number) for number in range(count)]
    loads = [
        (address, offset, length) for kind, _, offset, address, _, length, _, _ in segments if kind == LOAD
    ]
    dynamic = next(segment for segment in segments if segment[0] == DYNAMIC)
    entries = struct.iter_unpack("<qQ", image[dynamic[2] : dynamic[2] + dynamic[5]])
    wanted = {tag: value for tag, value in entries if tag in (STRING_TABLE, SYMBOL_TABLE, GNU_HASH)}
    return {
        tag: next(
            offset + at - address for address, offset, length in loads if address <= at < address + length
        )
        for tag, at in wanted.items()
    }


def _last_symbol(image: bytearray, table: int, buckets: int, first: int, words: int) -> int:
    """The index of the last symbol in the hash table: the end of the chain of the highest bucket."""
    bucket_list = table + 16 + 8 * words
    chains = bucket_list + 4 * buckets
    last: int = max(struct.unpack_from(f"<{buckets}I", image, bucket_list))
    while not image[chains + 4 * (last - first)] & 1:
        last += 1
    return last
