"""Stop strings: text that may become one is withheld, what stands before one is the end of the answer."""


class StopStrings:
    """Lets text through until one of `stops` is complete; the one that is complete first counts."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.hit: str | None = None
        """The stop string that ended the text."""

    def add(self, text: str) -> str:
        """What of the text so far is certain to be no part of a stop string; nothing after a hit."""
        if self.hit is not None:
            return ""
        text = self._held + text
        start = self._find(text)
        keep = self._doubtful(text) if start is None else len(text) - start
        self._held = text[len(text) - keep :] if start is None else ""
        return text[: len(text) - keep]

    def end(self) -> str:
        """What was withheld and is now known to become no stop string."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        """Where the stop string begins that ends first; of those that end together the longest."""
        best: tuple[int, int] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best, self.hit = (start + len(stop), start), stop
        return None if best is None else best[1]

    def _doubtful(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = 0
        for stop in self._stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while start >= 0:
                if stop.startswith(text[start:]):
                    longest = max(longest, len(text) - start)
                    break
                start = text.find(stop[0], start + 1)
        return longest
