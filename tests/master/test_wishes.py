"""A wish that would change nothing, or goes against another one, is refused by the names of both."""

from typing import Any

import msgspec
import pytest

from actors.master.wishes import contradiction
from schemas.ids import ModelId, NodeId
from schemas.model import ModelSpec, Share, SimulatedSpeed

N1, N2 = NodeId("n1"), NodeId("n2")
BOTH = (Share(node=N1), Share(node=N2))
CUT = (Share(node=N1, layers=(0, 2)), Share(node=N2, layers=(2, 4)))
N3, N4 = NodeId("n3"), NodeId("n4")
PAIRS = tuple(Share(node=node) for node in (N1, N2, N3, N4))
HYBRID: dict[str, Any] = {"strategy": "hybrid"}


def cut_in_pairs(*layers: tuple[int, int]) -> tuple[Share, ...]:
    return tuple(Share(node=NodeId(f"n{at}"), layers=each) for at, each in enumerate(layers, start=1))


SIMULATED: dict[str, Any] = {"engine": "simulated"}


def said(**wishes: Any) -> str:
    return contradiction(msgspec.structs.replace(ModelSpec(id=ModelId("m"), source="/m"), **wishes))


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        ({"cache_bytes": 0, **SIMULATED}, ("cache_bytes", "simulated", "cache_tokens")),
        ({"batch_bytes": 1, **SIMULATED}, ("batch_bytes", "simulated")),
        ({"slots": 4, "simulated": SimulatedSpeed(slots=8), **SIMULATED}, ("slots is 4", "8")),
        ({"simulated": SimulatedSpeed()}, ("simulated",)),
        ({"draft": "/d", **SIMULATED}, ("draft", "simulated")),
        ({"draft_tokens": 2}, ("draft_tokens", "draft")),
        ({"draft": "/d", "strategy": "tensor"}, ("draft", "strategy")),
        ({"backend": "nccl", **SIMULATED}, ("backend", "simulated")),
        ({"backend": "nccl", "strategy": "whole"}, ("backend", "strategy is whole")),
        ({"backend": "jaccl", "node": N1}, ("backend", "node")),
        ({"backend": "jaccl", "draft": "/d"}, ("backend", "draft")),
        ({"objective": "throughput", **SIMULATED}, ("objective", "simulated")),
        ({"objective": "throughput", "node": N1}, ("objective", "node")),
        ({"objective": "throughput", "split": CUT}, ("objective", "split")),
        ({"strategy": "whole", "min_nodes": 2}, ("strategy", "min_nodes")),
        ({"node": N1, "split": BOTH}, ("node", "split")),
        ({"node": N1, "exclude": (N1,)}, ("node n1", "exclude")),
        ({"strategy": "tensor", "split": CUT}, ("tensor", "split")),
        ({"node": N1, **HYBRID}, ("node", "strategy")),
        ({"backend": "jaccl", **HYBRID}, ("strategy is hybrid", "backend is jaccl")),
        ({"split": BOTH, **HYBRID}, ("in pairs, two pairs or more, and split names 2",)),
        (
            {"split": cut_in_pairs((0, 2), (0, 2)), **HYBRID},
            ("in pairs, two pairs or more, and split names 2",),
        ),
        ({"split": (*PAIRS, Share(node=NodeId("n5"))), **HYBRID}, ("in pairs", "split names 5")),
        (
            {"split": cut_in_pairs((0, 2), (2, 4), (4, 6), (6, 8)), **HYBRID},
            ("nodes n1 and n2 are a pair", "split"),
        ),
        (
            {"split": cut_in_pairs((0, 2), (0, 2), (2, 4), (2, 5)), **HYBRID},
            ("nodes n3 and n4 are a pair", "split"),
        ),
        (
            {"split": cut_in_pairs((0, 2), (0, 2), (3, 4), (3, 4)), **HYBRID},
            ("split", "each layer to one pair"),
        ),
        ({"split": cut_in_pairs((0, 2), (0, 2), (2, 4), (2, 4))}, ("split", "each layer to one node")),
        ({"split": PAIRS, "min_nodes": 6, **HYBRID}, ("min_nodes is 6", "split names 4")),
    ],
)
def test_it_is_refused_by_name(wishes: dict[str, Any], names: tuple[str, ...]) -> None:
    assert all(name in said(**wishes) for name in names), said(**wishes)


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"backend": "nccl"},
        {"backend": "nccl", "split": BOTH},
        {"objective": "throughput"},
        {"objective": "throughput", "strategy": "whole"},
        {"objective": "throughput", "split": BOTH},
        {"draft": "/d", "draft_tokens": 2, "node": N1},
        {"slots": 4, "simulated": SimulatedSpeed(), **SIMULATED},
        {"slots": 8, "simulated": SimulatedSpeed(slots=8), "context": 100, **SIMULATED},
        {"cache_bytes": 0, "slots": 1, "node": N1},
        {"min_nodes": 5, "objective": "throughput", **HYBRID},
        {"split": PAIRS, **HYBRID},
        {"split": cut_in_pairs((0, 2), (0, 2), (2, 4), (2, 4)), **HYBRID},
    ],
)
def test_what_goes_together_is_taken(wishes: dict[str, Any]) -> None:
    assert said(**wishes) == ""
