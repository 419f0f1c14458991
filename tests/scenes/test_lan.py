"""Machines with their own addresses find each other, form one cluster, lose a link, and heal."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from actors.links.yardstick import measure
from bus.address import joining
from bus.bus import Bus
from schemas.ids import NodeId
from schemas.state import State
from tests.lan import Machine, lan
from tests.nodes import HERE, NodeProcess, StartNode

TOKEN = "the-token-of-all-machines"
FLAGS = ("--discover", "--join-token", TOKEN)
Plug = Callable[..., Awaitable[NodeProcess]]


@pytest.fixture
async def plug(start_node: StartNode) -> Plug:
    """`await plug(machine)`: a node on that machine, told the token and to look; for a cluster of this network's own, since
    whatever else is tested on this computer is announced here too."""

    async def start(machine: Machine, *flags: str) -> NodeProcess:
        name, where = f"n{machine.address.rpartition('.')[2]}", ("--api-host", machine.address)
        of_its_own = ("--cluster", machine.lan)
        return await start_node(name, *FLAGS, *of_its_own, *where, *flags, within=machine.within, ready_s=180)

    return start


async def chat(node: NodeProcess) -> str:
    """As a client does it who tries again when the node says that the bus is away."""
    async with AsyncOpenAI(base_url=node.openai_url, api_key="none", max_retries=20, timeout=60) as client:
        answer = await client.chat.completions.create(
            model="guide", messages=[{"role": "user", "content": "reverse the word cat"}], temperature=0
        )
    return answer.choices[0].message.content or ""


def alive(state: State) -> set[str]:
    return {node.name for node in state.nodes.values() if node.alive}


@asynccontextmanager
async def outside(node: NodeProcess) -> AsyncIterator[Bus]:
    """A connection of the test's own, over the network."""
    bus = await Bus.connect(joining(node.info.join_url), node.info.cluster, "test", NodeId("test"))
    try:
        await bus.view.start()
        yield bus
    finally:
        await bus.close()


async def test_two_machines_find_each_other_and_either_answers(plug: Plug) -> None:
    with lan(2) as machines:
        nodes = await asyncio.gather(*(plug(machine) for machine in machines))
        assert len({node.info.join_url for node in nodes}) == 1
        assert await asyncio.gather(*(chat(node) for node in nodes)) == ["tac", "tac"]
        async with outside(nodes[0]) as bus:
            await bus.view.until(lambda state: len(state.links) == 2, timeout_s=30)
            found = {link.address for known in bus.view.state.links.values() for link in known.links}
            assert found == {machine.address for machine in machines}
        await stop(nodes)


async def stop(nodes: list[NodeProcess]) -> None:
    """While there is a network; the one with the bus last."""
    for node in sorted(nodes, key=lambda node: "127.0.0.1" in node.info.nats_url):
        await node.stop()


@pytest.mark.slow
async def test_a_starved_link_is_measured_as_such(tmp_path: Path) -> None:
    """The yardstick between two machines, whose cable takes 16 Mbit/s."""
    with lan(1) as (machine,):
        waiting = await asyncio.create_subprocess_exec(
            *machine.within, sys.executable, "-m", "tests.waiting", machine.address, stdout=PIPE, cwd=HERE
        )
        assert waiting.stdout is not None
        port = int(await waiting.stdout.readline())
        wide = await measure(machine.address, port, "secret")
        machine.starve("16mbit")
        narrow = await measure(machine.address, port, "secret")
        waiting.kill()
        await waiting.wait()
    assert wide.bandwidth_bytes_s > 10 * narrow.bandwidth_bytes_s
    assert narrow.bandwidth_bytes_s == pytest.approx(16e6 / 8, rel=0.25), narrow


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_four_machines_lose_a_link_and_heal(plug: Plug) -> None:
    with lan(4) as machines:
        nodes = await asyncio.gather(*(plug(machine) for machine in machines))
        (first,) = [node for node in nodes if "127.0.0.1" in node.info.nats_url]
        async with outside(first) as bus:
            everybody = {f"n{number}" for number in range(1, 5)}
            await bus.view.until(lambda state: alive(state) == everybody, timeout_s=20)
            assert await asyncio.gather(*(chat(node) for node in nodes)) == ["tac"] * 4

            away = next(node for node in nodes if node is not first)
            machine = machines[nodes.index(away)]
            machine.cut()
            gone = f"n{nodes.index(away) + 1}"
            await bus.view.until(lambda state: alive(state) == everybody - {gone}, timeout_s=30)
            assert [await chat(node) for node in nodes if node is not away] == ["tac"] * 3
            machine.mend()
            await bus.view.until(lambda state: alive(state) == everybody, timeout_s=60)
            assert await chat(away) == "tac"

            machines[nodes.index(first)].cut()  # the bus itself
            await bus.connection.until_down()
            machines[nodes.index(first)].mend()
            await bus.until_connected()
            await bus.view.until(lambda state: alive(state) == everybody, timeout_s=60)
            assert await asyncio.gather(*(chat(node) for node in nodes)) == ["tac"] * 4

            await away.kill()
            await bus.view.until(lambda state: alive(state) == everybody - {gone}, timeout_s=30)
            back = await plug(machine)
            assert back.node == away.node and await chat(back) == "tac"
        await stop([back, *(node for node in nodes if node is not away)])
