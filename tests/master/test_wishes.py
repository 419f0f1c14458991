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
    ],
)
def test_what_goes_together_is_taken(wishes: dict[str, Any]) -> None:
    assert said(**wishes) == ""
