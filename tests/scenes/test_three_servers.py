"""Three machines whose servers are one bus: any of them may be killed or cut off, and everything goes on."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from bus.commands import command
from schemas.commands import Done, LoadModel
from schemas.events import NodeLost
from tests.facts import joined
from tests.lan import Machine, lan
from tests.nodes import NodeProcess, StartNode
from tests.scenes.test_lan import alive, outside, stop
from tests.scenes.test_runner_death import SIM_SPEC, begun, client_of, load, rest, whole

TOKEN = "the-token-of-three-servers"
TOKENS = 400


async def three(start_node: StartNode, machines: list[Machine], *more: str) -> list[NodeProcess]:
    peers = ",".join(machine.address for machine in machines)
    flags = ("--bus-peers", peers, "--join-token", TOKEN, "--nats-port", "4222", "--model", "none")
    starts = (
        start_node(f"n{number}", *flags, *more, "--api-host", machine.address, within=machine.within)
        for number, machine in enumerate(machines, 1)
    )
    return list(await asyncio.gather(*starts))


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_servers_are_killed_in_turn_and_one_is_cut_off(start_node: StartNode) -> None:
    with lan(3) as machines:
        nodes = await three(start_node, machines)
        everybody = {"n1", "n2", "n3"}
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(outside(nodes[0]))
            client = await stack.enter_async_context(client_of(nodes[0]))
            await load(bus)
            undisturbed = await whole(client, TOKENS)
            acknowledged: list[int] = []
            for number, node in enumerate(nodes):
                stream, words = await begun(client, TOKENS)
                began, killed = monotonic(), node.bus_pid()
                os.kill(killed, signal.SIGKILL)
                acknowledged += [
                    await bus.log.record(joined(f"x{number}-{i}", roles=("api",))) for i in range(20)
                ]
                recorded_s = monotonic() - began
                assert words + await rest(stream) == undisturbed
                decided = await command(bus, LoadModel(spec=SIM_SPEC), deadline_s=30)
                print(
                    f"n{number + 1} killed: 20 facts after {recorded_s:.1f} s, a decision after {monotonic() - began:.1f} s"
                )
                assert isinstance(decided, Done) and node.bus_pid() != killed
                await bus.view.until(lambda state: everybody <= alive(state), timeout_s=60)

            stream, words = await begun(client, TOKENS)
            machines[2].cut()
            began = monotonic()
            await bus.view.until(lambda state: "n3" not in alive(state), timeout_s=60)
            print(f"n3 cut off: known as lost after {monotonic() - began:.1f} s")
            acknowledged += [await bus.log.record(joined(f"y{i}", roles=("api",))) for i in range(20)]
            assert words + await rest(stream) == undisturbed
            machines[2].mend()
            began = monotonic()
            await bus.view.until(lambda state: everybody <= alive(state), timeout_s=60)
            print(f"n3 mended: back after {monotonic() - began:.1f} s")
            stored = {recorded.seq: recorded.event async for recorded in bus.log.past()}
            assert stored.keys() >= set(acknowledged)
            lost = {event.node for event in stored.values() if isinstance(event, NodeLost)}
            assert [node.info.name for node in nodes if node.node in lost] == ["n3"], (
                "no dead server costs a node"
            )
        assert all("actor.failed" not in node.journal for node in nodes)
        await stop(nodes)
