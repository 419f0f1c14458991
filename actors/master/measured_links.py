"""The links that nodes have measured, by their ends; nothing is sorted until somebody asks for one."""

from collections.abc import Iterator, Mapping
from functools import cached_property

from schemas.ids import NodeId
from schemas.link import Link
from schemas.state import Links

Ends = tuple[NodeId, NodeId]


class MeasuredLinks(Mapping[Ends, Link]):
    """Of a thousand nodes there are tens of thousands, and a copy that is not split needs none of them."""

    def __init__(self, said: Mapping[NodeId, Links]) -> None:
        self._said = said

    @cached_property
    def _links(self) -> dict[Ends, Link]:
        return {(link.from_node, link.to_node): link for known in self._said.values() for link in known.links}

    def __getitem__(self, ends: Ends) -> Link:
        return self._links[ends]

    def __iter__(self) -> Iterator[Ends]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)
