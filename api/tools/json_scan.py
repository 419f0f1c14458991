"""Follows JSON that comes in pieces to where its first object or array ends."""

import re

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')


class JsonScan:
    """Brackets and strings; whether all of it is JSON is for a parser to say."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """How much of the next piece belongs to it, with the last bracket; None: all, and there is more to come."""
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            found = (_INSIDE if self._in_string else _OUTSIDE).search(text, at)
            if found is None:
                return None
            at = found.end()
            if self._take(found[0]):
                return at
        return None

    def _take(self, mark: str) -> bool:
        """True when it was the last bracket."""
        if mark == "\\":
            self._escaped = True
        elif mark == '"':
            self._in_string = not self._in_string
        else:
            self._depth += 1 if mark in "{[" else -1
            return self._depth <= 0
        return False
