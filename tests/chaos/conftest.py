"""The same real nodes as in the scenes."""

from tests.scenes.conftest import start_node

__all__ = ["start_node"]
