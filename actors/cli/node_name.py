"""Nodes as people name them: by name, by id, or by the beginning of an id."""

from actors.cli.failure import CommandFailed
from schemas.ids import NodeId
from schemas.nearest import did_you_mean
from schemas.state import State


def node_named(state: State, text: str) -> NodeId:
    """The node that `text` means; CommandFailed when none or several do."""
    exact = [node.id for node in state.nodes.values() if text in (node.id, node.name)]
    found = exact or [node for node in state.nodes if text and node.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandFailed(
            f"several nodes are called {text!r}; say which by its id: {', '.join(sorted(found))}"
        )
    names = [name for node in state.nodes.values() for name in (node.name, node.id)]
    raise CommandFailed(f"there is no node {text!r}{did_you_mean(text, names)}")
