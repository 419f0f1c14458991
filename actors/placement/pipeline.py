"""The best pipelines over machines of any kind in any order."""

from collections.abc import Sequence

from actors.placement.carrier import carriers
from actors.placement.costs import Stage, Step
from actors.placement.paths import Best, Search
from actors.placement.shape import Shape
from actors.placement.topology import Machine, Topology


def pipelines(shape: Shape, topology: Topology, step: Step) -> Best:
    """The pipelines of two or more machines with the least time of `step`."""
    alone = carriers(shape, topology, step, ((machine,) for machine in topology.machines))
    return Search(shape, topology, step, alone).run(most=shape.layers)


def in_order(
    shape: Shape, topology: Topology, step: Step, groups: Sequence[tuple[Machine, ...]]
) -> tuple[Stage, ...] | None:
    """The best cuts for stages on these machines or pairs as they come; None when the layers have no room there."""
    found = carriers(shape, topology, step, groups)
    return Search(shape, topology, step, found).in_order() if len(found) == len(groups) else None
