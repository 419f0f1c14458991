"""A long time as people write it: `90s`, `30min`, `12h`, `7d`, or `never`."""

import math
import re

PATTERN = r"^([1-9][0-9]{0,5}(s|min|h|d)|never)\Z"
EXAMPLES = "a time looks like 90s, 30min, 12h or 7d, or it is never"
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """Infinite for `never`; ValueError for what is no time."""
    if not re.match(PATTERN, text):
        raise ValueError(EXAMPLES)
    if text == "never":
        return math.inf
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * _UNITS_S[unit]
