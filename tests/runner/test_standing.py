"""What a runner takes is what its worker says that it may: nothing of another version, nothing fresh once it is retired."""

import asyncio

import msgspec

from actors.runner.job import Standing
from bus.bus import Bus
from schemas.chunks import Failed
from schemas.ids import InstanceId, ModelId, NodeId
from schemas.model import ModelSpec
from schemas.node import Pulse
from schemas.refused import Refused
from schemas.task import Accepted, Made, pack_ids
from schemas.version import version_of
from tests.engine.running import a_task, tokens
from tests.runner.client import Client
from tests.runner.conftest import StartRunner
from tests.runner.process import RunningProcess

OWN = version_of(ModelSpec(id=ModelId("m"), source="x", engine="simulated"))


class Told:
    """Says to a runner where it stands, and returns when its pulse says that it knows."""

    def __init__(self, bus: Bus, runner: RunningProcess) -> None:
        self._bus = bus
        self._runner = runner

    async def __call__(self, standing: Standing) -> Pulse:
        known: asyncio.Queue[Pulse] = asyncio.Queue()

        def hear(payload: bytes, _: str) -> None:
            pulse = msgspec.json.decode(payload, type=Pulse)
            if pulse.retired == standing.retired:
                known.put_nowait(pulse)

        async with self._bus.listening(self._bus.subjects.pulse(NodeId("n1"), InstanceId("i1")), hear):
            self._runner.say(msgspec.json.encode(standing) + b"\n")
            async with asyncio.timeout(30):
                return await known.get()


async def test_another_version_is_refused_and_given_back_to_its_owner(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    await start_runner(engine="simulated")
    await client.until_status("ready")
    refused = await client.offer(a_task(version="another"))
    assert isinstance(refused, Refused) and "another version" in refused.reason
    await bus.queue.put(a_task(request="r2", version="another"), ttl_s=60)
    [failed] = [each for each in await client.until_ended("r2") if isinstance(each, Failed)]
    assert failed.code == "unavailable" and "another version" in failed.reason
    await client.until_accepted(a_task(request="r3", version=OWN))
    assert len(tokens(await client.until_ended("r3"), "r3")) == 10


async def test_who_is_retired_takes_nothing_fresh_and_goes_on_with_what_was_begun(
    start_runner: StartRunner, client: Client, bus: Bus
) -> None:
    told = Told(bus, await start_runner(engine="simulated", decode=20))
    await client.until_status("ready")
    await client.until_accepted(a_task(max_tokens=1000))
    pulse = await told(Standing(pulls=False, retired=True))
    assert pulse.running == 1, "what it has it ends"
    refused = await client.offer(a_task(request="r2"))
    assert isinstance(refused, Refused) and refused.code == "unavailable"
    begun = a_task(request="r3", version=OWN, made=(Made(pack_ids([5, 6])),))
    assert isinstance(await client.offer(begun), Accepted)
    await client.until_ended("r3")
    await bus.queue.put(a_task(request="r4"), ttl_s=60)
    await told(Standing(pulls=False, retired=True))
    assert not client.chunks["r4"], "the queue is for others"
    await told(Standing())
    assert len(tokens(await client.until_ended("r4"), "r4")) == 10
