"""Beats arrive once a tick on a real bus, and go on after the bus was away."""

import asyncio
import os
import signal

import msgspec

from actors.machine.beats import sample_load, send_beats
from bus.bus import Bus
from bus.server import Server
from schemas.ids import InstanceId, NodeId
from schemas.node import Beat, Pulse


async def test_beats_arrive_and_go_on_after_the_server_was_killed(bus: Bus, nats_server: Server) -> None:
    node, heard = NodeId("n1"), asyncio.Queue[bytes]()
    watch = asyncio.create_task(nats_server.watch())
    beats = asyncio.create_task(send_beats(bus, node, lambda: sample_load(node), every_s=0.02))
    async with (
        bus.listening(bus.subjects.beats, lambda payload, _: heard.put_nowait(payload)),
        asyncio.timeout(10),
    ):
        for _ in range(3):
            assert msgspec.json.decode(await heard.get(), type=Beat).node == node
        back = bus.connection.life_event()
        os.kill(nats_server.pid, signal.SIGKILL)
        await back.wait()
        while not heard.empty():
            heard.get_nowait()
        assert msgspec.json.decode(await heard.get(), type=Beat).node == node
    beats.cancel()
    watch.cancel()


def pulse(instance: InstanceId, tokens_s: float) -> Pulse:
    idle = Pulse(instance=instance, attempt=1, steps=1, step_age_s=0, step_cpu_s=0, slowest_step_s=0)
    return msgspec.structs.replace(idle, tokens_s=tokens_s)


async def test_a_beat_tells_how_many_tokens_the_nodes_runners_make(bus: Bus) -> None:
    node, heard = NodeId("n1"), asyncio.Queue[bytes]()
    beats = asyncio.create_task(send_beats(bus, node, lambda: sample_load(node), every_s=0.02))
    async with (
        bus.listening(bus.subjects.beats, lambda payload, _: heard.put_nowait(payload)),
        asyncio.timeout(10),
    ):
        await heard.get()  # it listens to pulses before it sends its first beat
        for sender, name, tokens_s in ((node, "i1", 10.0), (node, "i2", 2.5), (NodeId("n2"), "i3", 99.0)):
            instance = InstanceId(name)
            await bus.send(bus.subjects.pulse(sender, instance), pulse(instance, tokens_s))
        await bus.send_raw(bus.subjects.pulse(node, InstanceId("i4")), b"garbage")
        await bus.connection.client.flush()
        while msgspec.json.decode(await heard.get(), type=Beat).tokens_s != 12.5:
            pass
    beats.cancel()
