"""A cluster on one machine's server becomes one on three: what was decided and accounted stays, and any one may go."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from bus.bus import Bus
from bus.commands import command
from schemas.commands import Done, LoadModel, UnloadModel
from schemas.events import Recorded
from schemas.ids import ModelId
from tests.cli.command import actors
from tests.nodes import StartNode, watching
from tests.ports import free_ports
from tests.scenes.test_runner_death import SIM, SIM_SPEC, begun, client_of, load, ready_again, rest, whole

TOKEN = "the-token-of-a-growing-cluster"
TOKENS = 200


async def accounts(bus: Bus) -> list[tuple[int, bytes]]:
    info = await bus.connection.jetstream.stream_info("troupe_audit")
    seqs = range(info.state.first_seq, info.state.last_seq + 1)
    return [(seq, (await bus.connection.jetstream.get_msg("troupe_audit", seq)).data or b"") for seq in seqs]


async def log_of(bus: Bus) -> list[Recorded]:
    return [recorded async for recorded in bus.log.past()]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_one_server_grows_to_three_with_all_that_it_had(start_node: StartNode, tmp_path: Path) -> None:
    common = ("--no-announce", "--join-token", TOKEN, "--model", "none")
    first = await start_node("a", "--accept-peers", *common)
    async with watching(first) as bus, client_of(first) as client:
        await load(bus)
        accounted = asyncio.Event()
        async with bus.listening(bus.subjects.audits, lambda *_: accounted.set()):
            undisturbed = await whole(client, TOKENS)
            await accounted.wait()
        for _ in range(100):
            twin = msgspec.structs.replace(SIM_SPEC, id=ModelId("twin"), replicas=0)
            assert isinstance(await command(bus, LoadModel(spec=twin)), Done)
            assert isinstance(await command(bus, UnloadModel(model=twin.id)), Done)
        audits, log, state = await accounts(bus), await log_of(bus), bus.view.state
    await first.stop()

    ports = free_ports(3)
    peers = ("--bus-peers", ",".join(f"127.0.0.1:{port}" for port in ports))
    refused = await actors(
        "up", "--data-dir", str(tmp_path / "a"), "--join-token", TOKEN, *peers, "--route-port", str(ports[0])
    )
    assert refused.code == 1 and "--carry-over takes them along" in refused.err, refused.err
    wrong = ("--carry-over", "--route-port", str(ports[1]))
    refused = await actors("up", "--data-dir", str(tmp_path / "a"), "--join-token", TOKEN, *peers, *wrong)
    assert refused.code == 1 and "name this machine first" in refused.err, refused.err

    starts = [
        start_node(name, *common, *peers, "--route-port", str(port), *more, ready_s=120)
        for name, port, more in zip("abc", ports, ((("--carry-over",), (), ())), strict=True)
    ]
    nodes = list(await asyncio.gather(*starts))
    async with watching(nodes[1]) as bus, client_of(nodes[1]) as client:
        after = await log_of(bus)
        assert after[: len(log)] == log and len(log) > 200, "the same events under the same numbers"
        assert bus.view.state.models.keys() == state.models.keys()
        assert bus.view.state.models[SIM].spec == state.models[SIM].spec
        assert audits and (await accounts(bus))[: len(audits)] == audits
        infos = await bus.connection.jetstream.streams_info()
        assert {info.config.num_replicas for info in infos if info.config.name != "troupe_out"} == {3}
        await ready_again(bus, attempt=1)
        assert isinstance(await command(bus, LoadModel(spec=SIM_SPEC), deadline_s=30), Done)
        stream, words = await begun(client, TOKENS)
        os.kill(nodes[0].bus_pid(), signal.SIGKILL)
        assert words + await rest(stream) == undisturbed
        assert isinstance(await command(bus, UnloadModel(model=SIM), deadline_s=60), Done)
    await asyncio.gather(*(node.stop() for node in nodes))
    alone = await actors("up", "--data-dir", str(tmp_path / "b"), "--api-port", "0", "--nats-port", "0")
    assert alone.code == 1 and "one of several" in alone.err and "--bus-peers as before" in alone.err
