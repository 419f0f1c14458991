"""A marker in a text that comes in pieces."""


def beginning_of(marker: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `marker`."""
    sizes = range(min(len(marker) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(marker[:size])), 0)
