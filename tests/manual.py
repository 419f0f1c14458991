"""What the manual tells people to write, so that tests try just that."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def snippet(page: str, begins: str) -> str:
    """The fenced block of a page that begins with these words, or is named by them."""
    blocks = re.findall(r"^```([\w-]*)\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    found = [text for name, text in blocks if name == begins or text.startswith(begins)]
    assert len(found) == 1, f"{page} has {len(found)} blocks like {begins!r}"
    return found[0]
