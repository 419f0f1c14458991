"""Beats arrive once a tick on a real bus, and go on after the bus was away."""

import asyncio
import os
import signal

import msgspec

from actors.machine.beats import sample_load, send_beats
from bus.bus import Bus
from bus.server import Server
from schemas.ids import NodeId
from schemas.node import Beat


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
