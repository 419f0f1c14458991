"""Nodes in sentences for people, who know them by their names."""

import re
from collections import Counter

from schemas.state import State

_WORD = re.compile(r"[\w-]+")


def in_names(sentence: str, state: State) -> str:
    """`sentence` with nodes' names for their ids, but for names that several nodes have."""
    often = Counter(node.name for node in state.nodes.values())
    names: dict[str, str] = {node.id: node.name for node in state.nodes.values() if often[node.name] == 1}
    return _WORD.sub(lambda word: names.get(word[0], word[0]), sentence)
