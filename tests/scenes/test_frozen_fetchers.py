"""Nodes that stand still while models go from hand to hand (SIGSTOP): the others go on, and nothing is damaged."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from bus.bus import Bus
from schemas.manifest import MIB
from tests.fleet import NAMES, Fleet, fleet, hub, llama
from tests.nodes import NodeProcess, watching

ON_THEIR_WAY = 4 * MIB
"""What a node has asked for at once."""
__all__ = ["fleet", "hub", "llama"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def frozen(node: NodeProcess) -> Iterator[None]:
    """All of its processes stand still meanwhile."""
    this = psutil.Process(node.process.pid)
    standing = [this, *this.children(recursive=True)]
    for each in standing:
        each.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in standing:
            each.send_signal(signal.SIGCONT)


async def until_all_but(fleet: Fleet, bus: Bus, name: str) -> None:
    others = [each for each in NAMES if each != name]
    await asyncio.gather(*(fleet.until_told(bus, each) for each in others))
    assert all(fleet.is_same(each) for each in others)


def again(fleet: Fleet, before: int) -> int:
    """Bytes that left the hub since it had sent `before`; each at most once, but for what was on its way to four requests."""
    since = fleet.hub.served.total() - before
    print(f"{fleet.hub.served.total() - fleet.size:,} of {fleet.size:,} bytes left the hub twice")
    assert since <= fleet.size + ON_THEIR_WAY
    return since


async def test_one_that_pulls(fleet: Fleet) -> None:
    await fleet.pull("--all", "--no-wait")
    async with watching(fleet.nodes["a"]) as bus:
        await fleet.until_here(bus, "c", fleet.size // 3)
        with frozen(fleet.nodes["c"]):
            before = fleet.hub.served.total()
            await until_all_but(fleet, bus, "c")
            assert again(fleet, before) < fleet.size, "the others had some already"
        await fleet.until_told(bus, "c")
    assert fleet.is_same("c")
    again(fleet, before)


async def test_the_one_that_fetches_from_outside(fleet: Fleet) -> None:
    await fleet.pull("--node", "c", "--no-wait")
    async with watching(fleet.nodes["a"]) as bus:
        await fleet.until_here(bus, "c", fleet.size // 4)
        await fleet.pull("--all", "--no-wait")
        with frozen(fleet.nodes["c"]):
            before = fleet.hub.served.total()
            await until_all_but(fleet, bus, "c")
        await fleet.until_told(bus, "c")
    assert fleet.is_same("c")
    again(fleet, before)


async def test_one_that_serves_pieces_is_used_again_when_it_goes_on(fleet: Fleet) -> None:
    await fleet.pull("--node", "c")
    fleet.hub.stop()
    async with watching(fleet.nodes["a"]) as bus:
        await fleet.pull("--node", "b", "--no-wait")
        with frozen(fleet.nodes["c"]):
            await bus.view.until(lambda state: not state.nodes[fleet.nodes["c"].node].alive, timeout_s=60)
            await fleet.pull("--node", "d", "--no-wait")
        for name in "bd":
            assert (await fleet.until_told(bus, name)).bytes_outside == 0
            assert fleet.is_same(name)
