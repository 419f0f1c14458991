"""Who brings which piece: one node, whatever the others do at the same time."""

import asyncio

from bus.bus import Bus
from bus.claims import Claim
from schemas.ids import NodeId
from schemas.manifest import Manifest

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


async def test_one_of_many_gets_a_piece(bus: Bus) -> None:
    nodes = [NodeId(str(number)) for number in range(20)]
    claims = await asyncio.gather(*(bus.claims.take("piece", node) for node in nodes))
    assert len({claim.node for claim in claims}) == 1


async def test_a_claim_that_was_looked_at_is_taken_over_once(bus: Bus) -> None:
    await bus.claims.take("piece", A)
    seen = await bus.claims.take("piece", B)
    assert seen.node == A
    assert (await bus.claims.take("piece", B, over=seen)).node == B
    assert (await bus.claims.take("piece", C, over=seen)).node == B, "it is another claim by now"


async def test_who_takes_its_own_again_keeps_it_from_being_taken_over(bus: Bus) -> None:
    """A node that comes back goes on with its piece, though somebody has just found it without."""
    first = await bus.claims.take("piece", A)
    seen = await bus.claims.take("piece", B)
    assert seen == Claim(A, first.revision)
    await bus.claims.take("piece", A)
    assert (await bus.claims.take("piece", B, over=seen)).node == A


async def test_who_asks_at_the_same_time_agrees_on_one_manifest(bus: Bus) -> None:
    manifests = [Manifest(str(commit), ()) for commit in range(5)]
    agreed = await asyncio.gather(*(bus.claims.agree("source", manifest) for manifest in manifests))
    assert len({manifest.commit for manifest in agreed}) == 1
