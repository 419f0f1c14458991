"""`SHA256SUMS`, as `sha256sum * > SHA256SUMS` writes it: what a place without a listing of its own consists of."""

import re

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")


def parse_sums(text: str) -> dict[str, str]:
    """SHA-256 in hex by file name; lines that are none are passed over."""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {line[2]: line[1] for line in found if line is not None}
