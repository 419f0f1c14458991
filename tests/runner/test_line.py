"""The watch over the link to the next rank; what only a cut cable shows is in tests/scenes/test_machines.py."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors.runner.group_life import GroupBroken
from actors.runner.line import line_to, waiting_for_line
from bus.bus import Bus
from schemas.commands import Done, LinkLost
from schemas.group import Present
from schemas.ids import NodeId

HOST, NEXT = "127.0.0.1", NodeId("n2")
NOWHERE = "255.255.255.255"
"""No connection leads there, on any machine."""


def present(line: int, host: str = HOST) -> Present:
    return Present(rank=1, host=host, port=9, machine="m", line=line)


@pytest.fixture
async def lost(bus: Bus) -> AsyncIterator[list[LinkLost]]:
    """What the node's surveyor is told."""
    told: list[LinkLost] = []

    async def note(message: LinkLost) -> Done:
        told.append(message)
        return Done()

    async with bus.serving(bus.subjects.link(bus.node), LinkLost, note):
        yield told


async def test_a_rank_that_cannot_be_reached_breaks_the_group_and_the_link_is_told(
    bus: Bus, lost: list[LinkLost]
) -> None:
    with pytest.raises(GroupBroken, match=r"the link to rank 1 \(node n2 at 255\.255\.255\.255\) is cut"):
        async with line_to(bus, present(9, NOWHERE), NEXT):
            raise AssertionError("there is no link")
    assert lost == [LinkLost(to=NEXT)]


async def test_a_rank_that_ended_before_it_was_reached_is_no_cut_link(bus: Bus, lost: list[LinkLost]) -> None:
    async with waiting_for_line(HOST) as port:
        pass  # nobody listens there any more
    async with line_to(bus, present(port), NEXT):
        assert await bus.answers(2.0), "the group goes on, until the rank's worker has told"
    assert lost == []


async def test_the_end_of_the_next_ranks_process_is_no_cut_link(bus: Bus, lost: list[LinkLost]) -> None:
    ended = asyncio.Event()

    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(end, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(10), line_to(bus, present(port), NEXT):
        await ended.wait()
        assert await bus.answers(2.0), "the loop goes round"
    assert lost == []


async def test_a_rank_of_an_older_version_is_not_watched(bus: Bus) -> None:
    async with line_to(bus, present(0), NEXT):
        pass
