"""Which nodes are there, what they carry, and whether that may have changed."""

from schemas.ids import ModelId, NodeId
from schemas.instance import Instance
from schemas.state import Node, State


def is_alive(state: State, node: NodeId) -> bool:
    """One that nobody knows is not."""
    known = state.nodes.get(node)
    return known is not None and known.alive


def is_whole(state: State, instance: Instance) -> bool:
    """All its nodes are there."""
    return all(is_alive(state, node) for node in instance.nodes)


def lost_node(state: State, instance: Instance) -> Node | None:
    """A node of it that is known to be gone."""
    known = (state.nodes.get(node) for node in instance.nodes)
    return next((node for node in known if node is not None and not node.alive), None)


def is_draining(state: State, instance: Instance) -> bool:
    """A node of it is drained."""
    known = (state.nodes.get(node) for node in instance.nodes)
    return any(node is not None and node.draining for node in known)


def models_on(state: State, node: NodeId) -> list[ModelId]:
    """Which models have a shard on it."""
    return sorted({one.spec.id for one in state.instances.values() if node in one.nodes})


def concerns_places(before: State, after: State) -> bool:
    """Tables are replaced when they change: progress of downloads and measured links, say, leave these as they were."""
    return any(
        getattr(before, table) is not getattr(after, table)
        for table in ("nodes", "models", "cards", "instances")
    )
