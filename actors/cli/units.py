"""Numbers as people read them."""

import time

BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def in_bytes(count: float) -> str:
    """`3.8 MiB`."""
    for unit in BYTE_UNITS:
        if count < 1024 or unit == BYTE_UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")


def in_thousands(count: float) -> str:
    """`950`, `1.2K`, `82M`, `7.2B`."""
    for unit in ("", "K", "M", "B"):
        if count < 1000 or unit == "B":
            return f"{count:.0f}{unit}" if not unit or count >= 10 else f"{count:.1f}{unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def since(then: float) -> str:
    """How long ago a Unix time was: `12 s`, `3 min`, `5 h`, `2 d`; empty for none."""
    if not then:
        return ""
    seconds = max(0.0, time.time() - then)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
