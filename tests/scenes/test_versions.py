"""Today's node beside one that was built from an older commit: they are one cluster, in both directions."""

import subprocess
from pathlib import Path

import pytest

from bus.server import Server
from tests.nodes import HERE, StartNode, watching
from tests.scenes.test_runner_death import answered, client_of, load

OLDER = "8aa1a3d010fcbcaf02b47af1e22b377c0e32c3ac"
"""Before nodes joined over the network, measured links and split models: no shard had layers, no node an address."""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of an older commit."""
    kept = git("rev-list", "HEAD").split()
    commit = OLDER if OLDER in kept else kept[min(1, len(kept) - 1)]
    if commit == kept[0]:
        pytest.skip("this checkout has no history: a clone with `--depth 1` has nothing older to run")
    folder = tmp_path_factory.mktemp("older")
    archive = subprocess.run(["git", "archive", commit], cwd=HERE, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("older_carries", [True, False], ids=["older carries", "older asks"])
async def test_one_leads_and_carries_the_other_answers(
    start_node: StartNode, nats_server: Server, older: Path, older_carries: bool
) -> None:
    flags = ("--nats", nats_server.url, "--model", "none")
    sources = (older, HERE) if older_carries else (HERE, older)
    carries = await start_node("carries", *flags, "--no-api", source=sources[0])
    asks = await start_node("asks", *flags, "--no-worker", "--no-master", source=sources[1])
    async with watching(asks) as bus, client_of(asks) as client:
        await load(bus)
        assert await answered(client)
        assert {node.name for node in bus.view.state.nodes.values() if node.alive} == {"carries", "asks"}
    for node in (carries, asks):
        assert "actor.failed" not in node.journal and "Traceback" not in node.journal


@pytest.mark.slow
@pytest.mark.parametrize("older_first", [True, False], ids=["older first", "older second"])
async def test_one_takes_over_what_the_other_led(
    start_node: StartNode, nats_server: Server, older: Path, older_first: bool
) -> None:
    flags = ("--nats", nats_server.url, "--model", "none")
    sources = (older, HERE) if older_first else (HERE, older)
    first = await start_node("first", *flags, source=sources[0])
    second = await start_node("second", *flags, source=sources[1])
    async with watching(second) as bus, client_of(second) as client:
        await load(bus)
        assert bus.view.state.leader and bus.view.state.leader.node == first.node
        await first.kill()
        await bus.view.until(lambda state: state.leader and state.leader.node == second.node, timeout_s=30)
        await bus.view.until(
            lambda state: any(
                second.node in i.nodes and i.status == "ready" for i in state.instances.values()
            ),
            timeout_s=60,
        )
        assert await answered(client)
    assert "actor.failed" not in second.journal
