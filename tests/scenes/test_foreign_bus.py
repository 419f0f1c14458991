"""Nodes on somebody else's NATS: with an operator's credentials, and at two sites of which one is a leaf."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from bus.address import asking
from bus.bus import Bus
from bus.errors import BusAway
from schemas.ids import NodeId
from tests.cli.command import actors
from tests.facts import joined
from tests.foreign import Operator, foreign, two_sites
from tests.nodes import StartNode, watching
from tests.scenes.test_runner_death import answered, begun, client_of, load, rest, whole

CUT_S = 5.0
TOKENS = 400


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_node_with_credentials_and_every_command_beside_it(
    start_node: StartNode, tmp_path: Path
) -> None:
    operator = Operator()
    creds = operator.credentials(tmp_path / "troupe.creds")
    async with foreign(tmp_path / "nats", operator.configuration(tmp_path / "store")) as server:
        node = await start_node("a", "--nats", server.url, "--nats-creds", str(creds), "--model", "none")
        async with watching(node) as bus, client_of(node) as client:
            await load(bus)
            assert await answered(client)
        runner = psutil.Process(node.runner_pids()[0])
        seed = next(word for word in creds.read_text().split() if word.startswith("SU"))
        told = (node.folder / "node.json").read_text() + node.journal
        assert str(creds) in told and seed not in told
        seen = (*runner.cmdline(), *runner.environ().values())
        assert not any(str(creds) in word or seed in word for word in seen)

        url = asking(server.url, creds=quote(str(creds)))
        for where, more in (
            (("--data-dir", str(node.folder)), {}),
            (("--nats", url), {}),
            (("--nats", server.url), {"TROUPE_NATS_CREDS": str(creds)}),
        ):
            for command in (
                ("status",),
                ("events", "--last", "3"),
                ("load", "guide", "--id", "x", "--replicas", "0"),
            ):
                ran = await actors(*command, *where, home=tmp_path, **more)
                assert ran.code == 0, ran.err
        ran = await actors("status", "--nats", server.url, home=tmp_path)
        assert ran.code == 3 and "does not take this token or these credentials" in ran.err

        narrow = operator.credentials(tmp_path / "narrow.creds", sub={"deny": ["troupe.cmd.>"]})
        flags = ("--nats", server.url, "--nats-creds", str(narrow), "--api-port", "0")
        ran = await actors("up", "--data-dir", str(tmp_path / "b"), *flags)
        assert ran.code == 1 and "does not permit us to subscribe to troupe.cmd." in ran.err + ran.out


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("jetstream", ["", 'jetstream { store_dir: "STORE", domain: site }\n'])
async def test_a_link_between_two_sites_is_cut_and_mended(
    start_node: StartNode, tmp_path: Path, jetstream: str
) -> None:
    async with AsyncExitStack() as stack:
        hub, leaf, link = await stack.enter_async_context(two_sites(tmp_path, jetstream))
        common = ("--js-domain", "hub", "--model", "none")
        worker = await start_node("worker", "--nats", hub.url, "--no-api", *common)
        door = await start_node("door", "--nats", leaf.url, "--api-only", *common)
        bus = await stack.enter_async_context(watching(worker))
        client = await stack.enter_async_context(client_of(door))
        await load(bus)
        undisturbed = await whole(client, TOKENS)
        far = await Bus.connect(asking(leaf.url, domain="hub"), "troupe", "far", NodeId("far"))
        stack.push_async_callback(far.close)
        await far.view.start()
        stream, words = await begun(client, TOKENS)
        link.cut()
        with pytest.raises(BusAway):
            await far.log.record(joined("cut-off"), deadline_s=CUT_S)
        link.mend()
        await far.view.until(
            lambda state: door.node in state.nodes and state.nodes[door.node].alive, timeout_s=60
        )
        async with asyncio.timeout(30):  # far less than a silent request is given
            assert words + await rest(stream) == undisturbed
        patient = client.with_options(max_retries=20)  # as a client that tries again when the bus is away
        assert await whole(patient, TOKENS) == undisturbed
