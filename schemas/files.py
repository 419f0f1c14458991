"""By what name the files of each version of a model are known on a node: the one that is wished for has the model's own."""

from hashlib import sha256

from schemas.ids import ModelId, NodeId
from schemas.state import Download, State


def earlier_id(model: ModelId, source: str) -> ModelId:
    """Of a version that is still carried while another one is wished for; clients cannot ask for it."""
    return ModelId(f"{model} (earlier {sha256(source.encode()).hexdigest()[:8]})")


def files_of(state: State, node: NodeId, model: ModelId, source: str) -> Download | None:
    """How far a node has come with the files of `model` from `source`."""
    found = state.download(node, model)
    if found is not None and found.source == source:
        return found
    return state.download(node, earlier_id(model, source))
