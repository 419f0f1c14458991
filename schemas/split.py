"""How an instance may be split over nodes, by the architecture of its model: what the engine can run today."""

from schemas.instance import Split

_SPLITTABLE: dict[str, frozenset[Split]] = {}
"""`model_type` of a config.json -> the splits that runners can form a group for."""


def splittable(architecture: str) -> frozenset[Split]:
    """The splits that runners can serve `architecture` in; `whole` always."""
    return _SPLITTABLE.get(architecture, frozenset()) | {"whole"}
